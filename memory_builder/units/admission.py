"""Which rows of the finished units enter the memory: of rows that share a key, the plan's first. Pure.

Units are finished alone, in any order and by any worker, and know nothing of each other; what ties them together
happens here, in the plan's order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory import Rows
from memory_builder.encoding.mapper import MappedUnit
from memory_builder.known_keys import DUPLICATE, EARLIER, REPEATED, SAME_AS_EARLIER, StoredPair
from memory_builder.records import Rejected

_SAME, _OTHER = (REPEATED, SAME_AS_EARLIER), (DUPLICATE, EARLIER)


@dataclass(frozen=True)
class Admitted:
    """What of a unit enters the memory.

    Attributes:
        num_rows: rows that do.
        positions: (num_rows,) which of the unit's rows, ascending; None if all of them.
        late: rows of the unit that an earlier unit's key keeps out.
    """

    num_rows: int
    positions: NDArray[np.int64] | None = None
    late: tuple[Rejected, ...] = ()

    def take(self, rows: Rows) -> Rows:
        """The rows that enter, of all of the unit's; nothing is copied where all do."""
        if self.positions is None:
            return rows
        return Rows(
            image=rows.image[self.positions], text=rows.text[self.positions], items=rows.items.take(self.positions)
        )


class Admission:
    """The keys that the plan's units have claimed so far.

    Every row claims its key, stored or rejected: which row is stored never depends on where units begin and end, nor
    on what could be decoded.
    """

    def __init__(self) -> None:
        # A hash of the pair that claimed the key: the pair itself would take several times as much RAM.
        self._claimed: dict[str, int | None] = {}

    def admit(self, unit: MappedUnit) -> Admitted:
        """Admit the next unit of the plan."""
        keys: list[str] = unit.rows.items.column("key").to_pylist()
        contents, captions = (unit.rows.items.column(name).to_pylist() for name in ("content_sha256", "caption"))
        pairs = list(map(hash, map(StoredPair, contents, captions)))
        positions = [position for position, key in enumerate(keys) if key not in self._claimed]
        late: tuple[Rejected, ...] = ()
        if len(positions) < len(keys):
            sources: list[str] = unit.rows.items.column("source").to_pylist()
            late = tuple(
                Rejected(key, *(_SAME if self._claimed[key] == pair else _OTHER), source)
                for key, source, pair in zip(keys, sources, pairs, strict=True)
                if key in self._claimed
            )
        for key, pair in zip(keys, pairs, strict=True):
            self._claimed.setdefault(key, pair)
        for row in unit.rejected:
            self._claimed.setdefault(row.key, None)
        return Admitted(len(positions), np.asarray(positions, dtype=np.int64) if late else None, late)
