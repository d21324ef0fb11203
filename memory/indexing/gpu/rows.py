"""Every row that is not deleted, in a GPU's memory in float16, compared with each query: nothing is missed.

FAISS multiplies in float16, so what it proposes is ranked again by the stored rows, and is accepted when it is proven
that nothing it left out can belong to it, as in searching/exact_search.py. Rows that tie beyond `MOST` are the
exception: of those the GPU's own choice stands.

Shapes: B queries, K neighbours, N rows of a segment, D embedding dimension.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory.format.rows import BLOCK_ROWS
from memory.indexing.gpu.owner import MOST, GpuOwner
from memory.searching.ranking import Ranked, best_k, exact_similarities, nothing_found

_SPARE: Final = 6  # candidates beyond k: enough that float16 rarely needs a second scan
_WIDER: Final = 8
# |what the GPU says - exact similarity|: a query rounded to float16 is off by 2**-11 of each number, at most
_HALF_ERROR: Final = 2.0**-11


class GpuRows:
    """The rows of one segment. Safe to call from several threads: the owner's does the work."""

    def __init__(
        self, owner: GpuOwner, embeddings: NDArray[np.float16], *, base_row: int, deleted: NDArray[np.int64]
    ) -> None:
        """Copy the rows to the GPU.

        Args:
            owner: of the GPU.
            embeddings: (N, D) rows of the segment.
            base_row: global id of row 0.
            deleted: rows (not ids) that no search may return; they are not copied.

        Raises:
            RuntimeError: no room on the GPU.
        """
        self._embeddings = embeddings
        self._base_row = base_row
        rows, embed_dim = embeddings.shape
        self._row_of = np.setdiff1d(np.arange(rows), deleted, assume_unique=True)  # by place on the GPU
        self._error = np.float32(_HALF_ERROR + (embed_dim + 8) * 2.0**-23)
        self._index = owner.flat(embed_dim, half=True)
        for start in range(0, len(self._row_of), BLOCK_ROWS):
            block = embeddings[self._row_of[start : start + BLOCK_ROWS]].astype(np.float32)
            self._index.add(block)

    def search(self, queries: NDArray[np.float32], k: int) -> Ranked:
        """The k best rows, at most `MOST`, by similarity, then id; as `ShardSearch.search`."""
        ids, similarities = nothing_found(len(queries), k)
        most = min(len(self._row_of), MOST)
        wanted = min(k, most)
        if wanted == 0:
            return ids, similarities
        pending, fetch = np.arange(len(queries)), min(most, wanted + _SPARE)
        while pending.size:
            told, places = self._index.search(queries[pending], fetch)
            rows, exact = self._rank(queries[pending], self._row_of[places], wanted)
            settled = (exact[:, -1] > told[:, -1] + self._error) | (fetch == most)
            ids[pending[settled], :wanted] = rows[settled] + self._base_row
            similarities[pending[settled], :wanted] = exact[settled]
            pending, fetch = pending[~settled], min(most, _WIDER * fetch)
        return ids, similarities

    def _rank(self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int) -> Ranked:
        return best_k(candidates, exact_similarities(queries, candidates, self._embeddings.__getitem__), k)
