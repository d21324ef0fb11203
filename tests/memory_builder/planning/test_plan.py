"""The plan: a pure function, whose names change with everything that changes rows and with nothing else."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from memory_builder import BuildConfig, ConfigError, CorpusError
from memory_builder.planning.plan import plan_units
from memory_builder.readers import Piece

ENCODER = {"weights_sha256": "w", "embed_dim": 4, "probes": {"image": [[0.1]]}}
OPTIONS = {"thumbnail_px": 96}


@dataclass
class Source:
    """What the plan asks of a reader."""

    name: str = "x"
    kind: str = "table"
    ignored: int = 3
    example_ignored: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, str]:
        return self.columns


def ids(source: Source, *pieces: Piece, options: Any = OPTIONS, encoder: Any = ENCODER) -> list[str]:
    return [unit.id for unit in plan_units([(source, pieces)], row_options=options, encoder=encoder).units]  # type: ignore[list-item]


PIECE = Piece(5, "print", None)


def test_units_keep_the_order_of_sources_and_pieces() -> None:
    pieces = [Piece(4, "1", None), Piece(2, "2", None)]
    plan = plan_units([(Source("b"), pieces), (Source("a"), [PIECE])], row_options=OPTIONS, encoder=ENCODER)  # type: ignore[list-item]
    assert [(unit.reader.name, unit.piece.fingerprint) for unit in plan.units] == [
        ("b", "1"),
        ("b", "2"),
        ("a", "print"),
    ]
    assert (plan.rows, plan.ignored) == (11, 6)


@pytest.mark.parametrize(
    "other",
    [
        {"source": Source(name="y")},
        {"source": Source(kind="folder")},
        {"source": Source(columns={"caption_column": "text"})},
        {"piece": Piece(6, "print", None)},
        {"piece": Piece(5, "other", None)},
        {"options": {"thumbnail_px": 0}},
        {"encoder": {**ENCODER, "weights_sha256": "v"}},
    ],
)
def test_what_changes_rows_changes_the_id(other: dict[str, Any]) -> None:
    given = {"source": Source(), "piece": PIECE, "options": OPTIONS, "encoder": ENCODER} | other
    assert ids(given.pop("source"), given.pop("piece"), **given) != ids(Source(), PIECE)


def test_place_and_probes_do_not() -> None:
    probes = {**ENCODER, "probes": {"image": [[0.10001]]}}
    assert ids(Source(), replace(PIECE, place="elsewhere"), encoder=probes) == ids(Source(), PIECE)


def test_one_unit_is_planned_once() -> None:
    assert len(ids(Source(), PIECE, PIECE)) == 1


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(CorpusError, match="'x'") as caught:
        plan_units([(Source(), [PIECE]), (Source(), [])], row_options=OPTIONS, encoder=ENCODER)  # type: ignore[list-item]
    assert caught.value.code == "corpus_name_clash"


@pytest.mark.parametrize(
    "wrong",
    [{"unit_rows": 0}, {"unit_rows": 65_537}, {"batch_size": 0}, {"max_error_rate": 1.5}, {"corpora": ()}],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "corpora" not in wrong else "No corpus"):
        BuildConfig(**({"corpora": ("x",), "memory": Path("m")} | wrong))
