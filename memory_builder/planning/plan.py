"""Which units a build has, and what each is called: a pure function of what the readers found."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memory import Manifest
from memory_builder.errors import CorpusError
from memory_builder.readers import Piece, Reader

_FORMAT = 1  # raise it when the same piece would give other rows


@dataclass(frozen=True)
class Unit:
    """A range of a source that is encoded as one; done, it is never done again.

    Attributes:
        id: SHA-256 over the source's name and kind, the piece's fingerprint, the options and the encoder.
        reader: of the source.
        piece: what of the source.
        piece_id: the id without what is made of the rows: which rows they are, whoever encodes them. Empty where no
            books are kept.
    """

    id: str
    reader: Reader[Any]
    piece: Piece
    piece_id: str = ""


@dataclass(frozen=True)
class Plan:
    """All units, in the order in which their rows enter the memory.

    Attributes:
        units: no id twice.
        ignored: files and members that belong to no row.
    """

    units: tuple[Unit, ...]
    ignored: int

    @property
    def rows(self) -> int:
        """Rows of the corpus, rejected ones included."""
        return sum(unit.piece.rows for unit in self.units)

    def retried(self, previous: Manifest) -> "Plan":
        """The plan with other names for published units that have rows not stored, so that they are done again.

        Args:
            previous: the version that holds them; the new names are of its digest, so that a killed build goes on.
        """
        stored = {unit.id: unit.rows for segment in previous.segments for unit in segment.units}
        units = [
            unit
            if stored.get(unit.id, unit.piece.rows) == unit.piece.rows
            else replace(unit, id=hashlib.sha256(f"{unit.id} again after {previous.digest}".encode()).hexdigest())
            for unit in self.units
        ]
        return replace(self, units=tuple(units))


def plan_units(
    sources: Iterable[tuple[Reader[Any], Sequence[Piece]]],
    *,
    row_options: Mapping[str, Any],
    encoder: Mapping[str, Any],
) -> Plan:
    """Order and name the units.

    Args:
        sources: each reader with its pieces, in the order of the command line.
        row_options: settings that change what is stored of a row.
        encoder: the encoder's record; its probes, which differ between machines in their last digits, do not
            count.

    Raises:
        CorpusError: corpus_name_clash, if two sources would give the same keys.
    """
    encoder = {name: value for name, value in encoder.items() if name != "probes"}
    names: set[str] = set()
    units: dict[str, Unit] = {}
    ignored = 0
    for reader, pieces in sources:
        if reader.name in names:
            raise CorpusError(
                "corpus_name_clash",
                f"Two corpora are called {reader.name!r}, and keys begin with that name. Rename one; a "
                "symbolic link of another name is enough.",
            )
        names.add(reader.name)
        ignored += reader.ignored
        for piece in pieces:
            which = {
                "format": _FORMAT,
                "source": {"name": reader.name, "kind": reader.kind, "options": dict(reader.options())},
                "piece": {"rows": piece.rows, "fingerprint": piece.fingerprint},
            }
            identity = {**which, "row_options": dict(row_options), "encoder": encoder}
            unit = Unit(_named(identity), reader, piece, _named(which))
            units.setdefault(unit.id, unit)
    return Plan(tuple(units.values()), ignored)


def _named(identity: Mapping[str, Any]) -> str:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
