"""Add: a few pairs in one commit, found at once, told apart from what is there already."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import memory
from memory import BuildLock, EncoderMismatch, KeyPatterns, KeyTaken, Locked, Memory, RowsInvalid, add_rows, remove_keys


@pytest.fixture
def pairs(root, factory):
    """Keys 1-0 … 1-39."""
    factory.commit(root, [factory.make_rows(40, seed=1)])
    return root


@pytest.fixture
def add(root, factory):
    def add(rows, **options):
        return add_rows(root, rows, encoder=factory.encoder_record(), **options)

    return add


def found_by_itself(root: Path, rows: memory.Rows) -> list[str]:
    """The key nearest to each row, searched on both sides; they must agree."""
    with Memory.open(root) as opened:
        nearest = []
        for side in memory.MODALITIES:
            queries = rows.side(side).astype(np.float32)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            nearest.append([item.key for item in opened.items(opened.search(queries, 1, modality=side).ids[:, 0])])
        assert nearest[0] == nearest[1]
        return nearest[0]


def test_what_is_added_is_found_and_what_was_there_keeps_its_id(pairs, factory, add):
    with Memory.open(pairs) as opened:
        before = opened.keys()
    rows = factory.make_rows(3, seed=5)
    addition = add(rows)
    assert (addition.version, addition.created, addition.num_items, addition.replaced) == (2, True, 43, 0)
    assert addition.added == ("5-0", "5-1", "5-2")
    assert found_by_itself(pairs, rows) == ["5-0", "5-1", "5-2"]
    with Memory.open(pairs) as opened:
        assert opened.keys() == [*before, "5-0", "5-1", "5-2"]
    assert memory.verify_memory(pairs, full=True).ok


def test_the_same_pair_again_is_no_new_version(pairs, factory, add):
    rows = factory.make_rows(3, seed=5)
    add(factory.slice_rows(rows, 0, 2))
    addition = add(rows)
    assert (addition.version, addition.added, addition.present) == (3, ("5-2",), ("5-0", "5-1"))
    again = add(rows)
    assert (again.version, again.created, again.added, len(again.present)) == (3, False, (), 3)


def with_caption(rows: memory.Rows, caption: str) -> memory.Rows:
    place = rows.items.schema.get_field_index("caption")
    column = pa.array([caption] * rows.items.num_rows)
    return memory.Rows(rows.image, rows.text, rows.items.set_column(place, rows.items.schema.field(place), column))


def test_another_pair_of_a_key_is_refused_or_takes_its_place(pairs, factory, add):
    rows = with_caption(factory.slice_rows(factory.make_rows(40, seed=1), 7, 8), "something else")
    with pytest.raises(KeyTaken):
        add(rows)
    assert memory.latest_version(pairs) == 1
    addition = add(rows, replace=True)
    assert (addition.added, addition.replaced, addition.num_items) == (("1-7",), 1, 40)
    with Memory.open(pairs) as opened:
        assert opened.deleted_ids().tolist() == [7]
        assert opened.items([40])[0].caption == "something else"


def test_a_removed_key_that_is_added_is_no_removed_one(pairs, factory, add):
    rows = factory.make_rows(2, seed=5)
    add(rows)
    remove_keys(pairs, KeyPatterns(keys=["5-0", "1-0"]))
    assert add(factory.slice_rows(rows, 0, 1)).added == ("5-0",)
    removed = memory.read_removed(pairs, memory.read_manifest(pairs))
    assert removed == {memory.key_hash("1-0")}
    assert found_by_itself(pairs, rows) == ["5-0", "5-1"]


def test_many_small_additions_share_a_segment_and_keep_their_ids(pairs, factory, add):
    rows = factory.make_rows(12, seed=5)
    for place in range(12):
        add(factory.slice_rows(rows, place, place + 1))
    manifest = memory.read_manifest(pairs)
    assert [segment.rows for segment in manifest.segments] == [40, 12]
    assert found_by_itself(pairs, rows) == [f"5-{place}" for place in range(12)]
    with Memory.open(pairs) as opened:
        assert opened.keys()[40:] == [f"5-{place}" for place in range(12)]
    assert memory.verify_memory(pairs, full=True).ok


def test_a_builders_segment_is_never_rewritten(pairs, factory, add):
    before = memory.read_manifest(pairs).segments
    add(factory.make_rows(1, seed=5))
    assert memory.read_manifest(pairs).segments[:-1] == before


def test_X6_a_builder_at_work_refuses_it(pairs, factory, add):
    with BuildLock(pairs), pytest.raises(Locked):
        add(factory.make_rows(1, seed=5))
    assert memory.latest_version(pairs) == 1


def test_bad_rows_and_another_encoder_change_nothing(pairs, factory, add):
    twice = factory.make_rows(1, seed=5)
    items = pa.concat_tables([twice.items, twice.items])
    with pytest.raises(RowsInvalid, match="twice"):
        add(memory.Rows(np.repeat(twice.image, 2, 0), np.repeat(twice.text, 2, 0), items))
    record = factory.encoder_record() | {"weights_sha256": "00" * 32}
    with pytest.raises(EncoderMismatch):
        add_rows(pairs, twice, encoder=record)
    assert memory.latest_version(pairs) == 1


def trained(root: Path) -> dict[str, str]:
    """Hash of the trained lists of each modality."""
    indexes = memory.read_manifest(root).indexes
    return {side: next(f.sha256 for f in index.files if "trained" in f.path) for side, index in indexes.items()}


def test_an_addition_trains_nothing_and_tells_that_the_lists_are_outgrown(root, factory, add):
    factory.commit(root, [factory.make_rows(300, seed=1)], options=memory.IndexOptions(factory="IVF4,SQ8"))
    before = trained(root)
    add(factory.make_rows(280, seed=5))
    with Memory.open(root) as opened:
        assert [index["outgrown"] for index in opened.indices()] == [False, False]
    rows = factory.make_rows(30, seed=6)
    add(rows)
    assert trained(root) == before
    assert found_by_itself(root, rows) == [f"6-{place}" for place in range(30)]
    with Memory.open(root) as opened:
        assert [index["outgrown"] for index in opened.indices()] == [True, True]
    assert memory.verify_memory(root, full=True).ok
    memory.reindex(root)
    assert trained(root) != before
    with Memory.open(root) as opened:
        assert [index["outgrown"] for index in opened.indices()] == [False, False]


def test_an_exact_index_stays_one_in_an_addition_beyond_its_size(pairs, factory, add, monkeypatch):
    monkeypatch.setattr("memory.indexing.options.EXACT_ROWS", 41)
    rows = factory.make_rows(3, seed=5)
    add(rows)
    assert found_by_itself(pairs, rows) == ["5-0", "5-1", "5-2"]
    with Memory.open(pairs) as opened:
        assert [(index["kind"], index["outgrown"]) for index in opened.indices()] == [("exact", True)] * 2


def test_keys_are_found_where_they_are_stored_deleted_ones_too(root, factory):
    factory.commit(root, [factory.make_rows(20_000, 8, seed=1), factory.make_rows(30, 8, seed=2)], deletes=[3, 19_999])
    names = ["1-3", "1-16384", "1-19999", "2-0", "2-29", "nobody", "", "\udcff"]
    with Memory.open(root) as opened:
        slow = [(id, key) for id, key in enumerate(opened.keys()) if key in names]
        assert opened.find_keys(names) == slow
        assert len(slow) == 5
        assert opened.find_keys([]) == opened.find_keys(["nobody"]) == []
