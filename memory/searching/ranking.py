"""Ranking by exact similarity: what every index's candidates go through, so that all rank alike.

A similarity is the inner product of a query and a stored fp16 row, summed in float64 and rounded to float32. Equal rows
come out equal, whatever index found them, on every processor, in a batch or alone.

numpy. Shapes: B queries, K neighbours, C candidates, D embedding dimension.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

MISSING: Final = np.int64(-1)
NOWHERE: Final = np.float32(-np.inf)  # similarity of a missing neighbour while sorting; never leaves the room
_BLOCK_ELEMENTS: Final = 1 << 18  # numbers at a time: 2 MiB of float64, which stay in the processor's cache

Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]  # ids and similarities, both (B, K), best first
TakeRows = Callable[[NDArray[np.int64]], NDArray[np.float16]]  # (n,) row numbers to (n, D)


def exact_similarities(
    queries: NDArray[np.float32], candidates: NDArray[np.int64], take_rows: TakeRows
) -> NDArray[np.float32]:
    """Similarity of each query to each of its candidates.

    Args:
        queries: (B, D) float32.
        candidates: (B, C), what `take_rows` knows; none is missing.
        take_rows: the stored rows.

    Returns:
        (B, C) float32.
    """
    num_queries, count = candidates.shape
    embed_dim = queries.shape[1]
    similarities = np.empty(candidates.shape, dtype=np.float32)
    step = max(1, _BLOCK_ELEMENTS // max(1, count * embed_dim))  # queries at a time
    width = max(1, _BLOCK_ELEMENTS // embed_dim)  # candidates at a time
    for b in range(0, num_queries, step):
        block = queries[b : b + step].astype(np.float64)
        for c in range(0, count, width):
            wanted = candidates[b : b + step, c : c + width]
            # einsum sums every row in the same order; a BLAS call would not
            keys = take_rows(wanted.ravel()).astype(np.float64).reshape(*wanted.shape, embed_dim)
            similarities[b : b + step, c : c + width] = np.einsum("bcd,bd->bc", keys, block)
    return similarities


def best_k(ids: NDArray[np.int64], similarities: NDArray[np.float32], k: int) -> Ranked:
    """The first k of each row by similarity descending, then id ascending; (B, C) in, (B, min(k, C)) out."""
    order = np.lexsort((ids, -similarities))[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def nothing_found(num_queries: int, k: int) -> Ranked:
    """Ids and similarities, (B, k), of neighbours that are all missing; to be filled."""
    return np.full((num_queries, k), MISSING, dtype=np.int64), np.full((num_queries, k), NOWHERE, dtype=np.float32)
