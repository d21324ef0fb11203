"""Keys of the memory, the book of rows, and how units become segments: the pure parts of a build."""

import pytest

from memory import UnitRecord, key_hash
from memory_builder.known_keys import KnownKeys, StoredPair
from memory_builder.records import Rejected
from memory_builder.reporting.ledger import Ledger
from memory_builder.units.admission import Admitted
from memory_builder.units.segmenting import MAX_SEGMENT_UNITS, FinishedUnit, group_units


def rejected(key: str, code: str) -> Rejected:
    return Rejected(key, code, "", "")


@pytest.mark.parametrize(
    ("keys", "rows", "agrees"),
    [
        (["new"], [], True),
        (["stored"], [], False),
        ([], [("bad", "image_empty"), ("bad", "duplicate_key")], True),
        ([], [("stored", "duplicate_key")], True),
        (["new"], [("new", "duplicate_key")], True),
        ([], [("new", "duplicate_key")], False),
        ([], [("stored", "already_stored")], True),
        ([], [("new", "already_stored")], False),
        ([], [("other", "image_truncated"), ("new", "missing_caption")], True),
        (["removed"], [], False),
        ([], [("removed", "removed_earlier")], True),
        ([], [("new", "removed_earlier")], False),
    ],
)
def test_a_finished_unit_is_taken_only_if_it_would_come_out_the_same(
    keys: list[str], rows: list[tuple[str, str]], agrees: bool
) -> None:
    known = KnownKeys({"stored": StoredPair("", "")}, removed={key_hash("removed")})
    assert known.agrees_with(keys, [rejected(*row) for row in rows]) is agrees


def test_totals_add_up() -> None:
    ledger = Ledger(0.5)
    ledger.enter(3, [rejected("a", "x"), rejected("b", "already_stored"), rejected("c", "x")])
    ledger.enter_published(4, {("y", "detail"): 1})
    assert (ledger.added, ledger.present, dict(ledger.rejected), ledger.rows) == (3, 4, {"x": 2}, 10)
    assert dict(ledger.rejected_earlier) == {"y": 1}


@pytest.mark.parametrize(
    ("added", "bad", "complete", "exceeds"),
    [
        (95, 5, True, False),
        (94, 6, True, True),
        (94, 6, False, False),  # a hundred rows tell nothing yet
        (949, 51, False, True),
        (950, 50, False, False),
        (0, 0, True, False),
    ],
)
def test_the_error_rate_is_judged_late_or_at_the_end(added: int, bad: int, complete: bool, exceeds: bool) -> None:
    ledger = Ledger(0.05)
    already, stored = added // 2, added - added // 2
    ledger.enter(stored, [rejected(str(number), "code") for number in range(bad)])
    ledger.enter(0, [rejected(str(number), "already_stored") for number in range(already)])  # looked at, and good
    ledger.enter_published(5000, {})  # not looked at
    assert ledger.exceeds(complete=complete) is exceeds


def sizes(units: list[int], max_rows: int) -> list[list[int]]:
    finished = [FinishedUnit(UnitRecord(str(number), rows), Admitted(rows)) for number, rows in enumerate(units)]
    return [[unit.record.rows for unit in group] for group in group_units(finished, max_rows)]


def test_units_are_grouped_in_order_and_never_cut() -> None:
    assert sizes([4, 4, 4], 8) == [[4, 4], [4]]
    assert sizes([9, 1, 9], 8) == [[9], [1], [9]]
    assert sizes([0, 4, 0, 4, 0], 4) == [[0, 4, 0], [4, 0]]
    assert sizes([0, 0], 4) == []
    assert sizes([], 4) == []
    assert [len(group) for group in sizes([1] * (MAX_SEGMENT_UNITS + 1), 1000)] == [MAX_SEGMENT_UNITS, 1]
