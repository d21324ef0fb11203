"""The fp16 rows of one modality over all segments, by id. numpy only.

Shapes: N rows of all segments, D embedding dimension.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from memory.format.rows import BLOCK_ROWS


class StoredRows:
    """Consecutive arrays as one; safe to read from several threads."""

    def __init__(self, sides: Sequence[NDArray[np.float16]]) -> None:
        """Join arrays.

        Args:
            sides: (n, D) float16 of each segment, in id order, at least one; may be memory-mapped.
        """
        self._sides = tuple(sides)
        self._bases = np.cumsum([0, *(len(side) for side in sides)])

    def __len__(self) -> int:
        return int(self._bases[-1])

    @property
    def embed_dim(self) -> int:
        return int(self._sides[0].shape[1])

    def take(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """Rows of ids (n,), as (n, D); ascending ids read a disk in order."""
        if len(self._sides) == 1:
            return self._sides[0][ids]
        rows = np.empty((len(ids), self.embed_dim), dtype=np.float16)
        owners = np.searchsorted(self._bases, ids, side="right") - 1
        for owner in np.unique(owners).tolist():
            positions = np.flatnonzero(owners == owner)
            rows[positions] = self._sides[owner][ids[positions] - self._bases[owner]]
        return rows

    def blocks(self, start: int = 0, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Every row from `start` on, once: the first id of a block, and (≤ `rows`, D) float32."""
        for side, base in zip(self._sides, self._bases.tolist(), strict=False):
            for first in range(max(0, start - base), len(side), rows):
                yield base + first, side[first : first + rows].astype(np.float32)
