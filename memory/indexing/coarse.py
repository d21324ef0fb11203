"""Which lists a query looks at: the outcome of the coarse step, once for all shards. numpy only.

Shapes: B queries, P lists.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAREST_LISTS: Final = 4  # what a margin is measured from: one list alone may lie near by chance
NO_LIST: Final = np.int64(-1)  # FAISS passes over it


class Coarse(NamedTuple):
    """Lists to look at, nearest first.

    Attributes:
        lists: (B, P) int64 numbers; `NO_LIST` is none.
        similarities: (B, P) float32 of the query to their centroids.
    """

    lists: NDArray[np.int64]
    similarities: NDArray[np.float32]


def shortfall(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much less similar each list is than the nearest ones: what a margin is compared to, (B, P) to (B, P)."""
    nearest: NDArray[np.float32] = similarities[:, :NEAREST_LISTS].mean(axis=1, keepdims=True)
    return nearest - similarities


def deal(coarse: Coarse, shares: int) -> Coarse:
    """The lists of one query dealt out, nearest first, as those of so many queries: (1, P) to (shares, P / shares)."""
    kept = np.flatnonzero(coarse.lists[0] != NO_LIST)
    lists = np.full((shares, -(-len(kept) // shares)), NO_LIST)
    similarities = np.zeros(lists.shape, dtype=np.float32)
    lists.T.flat[: len(kept)] = coarse.lists[0, kept]
    similarities.T.flat[: len(kept)] = coarse.similarities[0, kept]
    return Coarse(lists, similarities)
