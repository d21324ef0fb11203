"""Exact top-k of one shard, and the merge over shards. FAISS finds candidates, the fp16 rows decide.

FAISS sums in float32, in an order that depends on the processor and on a row's place in the shard, so equal
rows may come out unequal. Candidates are therefore scored again in float64 (ranking.py), and a result is accepted only
when it is proven that nothing FAISS left out can belong to it. The outcome is the same on every machine and
for every number of shards.

numpy; FAISS objects come in opened. Shapes: B queries, K neighbours, C candidates, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.searching.ranking import NOWHERE, Ranked, best_k, exact_similarities, nothing_found

_SPARE: Final = 16  # candidates beyond k: enough that ties rarely need a second scan
_MANY: Final = 1024  # candidates from which on ties are found by similarity: so many cost FAISS hardly more than few
_SCANNED_ROWS: Final = 4096  # at a time: 8 MiB as float32 of 512 dimensions


class ShardSearch:
    """One shard of one modality, ready to search; immutable, safe for several threads."""

    def __init__(
        self, index: Any, embeddings: NDArray[np.float16], *, base_row: int, deleted: NDArray[np.int64]
    ) -> None:
        """Tie an opened FAISS index to the rows it was built from.

        Args:
            index: FAISS index over N rows, inner product; its search returns none of those deleted.
            embeddings: (N, D) float16, the same rows.
            base_row: global id of row 0.
            deleted: rows of this shard (not ids) that no search may return.
        """
        self._index = index
        self._embeddings = embeddings
        self._base_row = base_row
        self._rows, embed_dim = embeddings.shape
        self._num_alive = self._rows - len(deleted)
        self._alive = np.ones(self._rows, dtype=np.bool_) if len(deleted) else None
        if self._alive is not None:
            self._alive[deleted] = False
        # |sum in float32 - exact sum| <= D · 2**-24 for unit vectors; doubled, and some for the final
        # rounding.
        self._error = np.float32((embed_dim + 8) * 2.0**-23)

    def search(self, queries: NDArray[np.float32], k: int) -> Ranked:
        """The k best rows that are not deleted, by similarity, then id.

        Args:
            queries: (B, D) float32, unit norm, C-contiguous.
            k: at least 1.

        Returns:
            Global ids and similarities, (B, k); `MISSING` and `NOWHERE` beyond the shard's rows.
        """
        ids, similarities = nothing_found(len(queries), k)
        wanted = min(k, self._num_alive)
        if wanted == 0:
            return ids, similarities
        pending = np.arange(len(queries))
        fetch = min(self._num_alive, wanted + _SPARE)
        while pending.size:
            approximate, candidates = self._index.search(queries[pending], fetch)
            rows, exact = self._rank(queries[pending], candidates, wanted)
            # What FAISS left out is at most approximate[:, -1], give or take its error.
            full = exact[:, -1] > NOWHERE
            settled = (exact[:, -1] > approximate[:, -1] + self._error) | (fetch == self._num_alive)
            tied = np.flatnonzero(full & ~settled) if fetch >= _MANY else np.empty(0, dtype=np.int64)
            if tied.size:
                rows[tied], exact[tied] = self._resolve(queries[pending[tied]], exact[tied, -1], wanted)
                settled[tied] = True
            ids[pending[settled], :wanted] = rows[settled] + self._base_row
            similarities[pending[settled], :wanted] = exact[settled]
            pending = pending[~settled]  # others tie with the last: fetch more for those queries only
            fetch = min(self._num_alive, 4 * fetch)
        return ids, similarities

    def _resolve(self, queries: NDArray[np.float32], kth: NDArray[np.float32], k: int) -> Ranked:
        """Rank every row that could reach the k-th similarity (B,) of its query, however many tie with it.

        A memory whose captions are names of classes has thousands of equal rows. All rows are multiplied: FAISS's
        search of a range takes 15 times as long as its search of the nearest.
        """
        least = (kth - 2 * self._error)[:, None]
        ids, similarities = nothing_found(len(queries), k)
        for start in range(0, self._rows, _SCANNED_ROWS):
            block = self._embeddings[start : start + _SCANNED_ROWS].astype(np.float32)
            reaches = queries @ block.T >= least  # (B, n)
            for one in np.flatnonzero(reaches.any(axis=1)).tolist():  # merged at once: a shard of equal rows is large
                candidates = start + np.flatnonzero(reaches[one])
                more_ids, more_similarities = self._rank(queries[one : one + 1], candidates[None], k)
                ids[one], similarities[one] = best_k(
                    np.concatenate((ids[one : one + 1], more_ids), axis=1),
                    np.concatenate((similarities[one : one + 1], more_similarities), axis=1),
                    k,
                )
        return ids, similarities

    def _rank(
        self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score (B, C) candidate rows exactly, drop deleted ones, keep the best k."""
        similarities = exact_similarities(queries, candidates, self._embeddings.__getitem__)
        if self._alive is not None:
            similarities[~self._alive[candidates]] = NOWHERE
        return best_k(candidates, similarities, k)


class Scanned(Protocol):
    """A shard of which each row is compared."""

    def search(self, queries: NDArray[np.float32], k: int) -> Ranked:
        """As `ShardSearch.search`."""
        ...


class ExactSearch:
    """All shards of one modality."""

    def __init__(self, shards: Sequence[Scanned]) -> None:
        self._shards = shards

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int | None = None, num_candidates: int | None = None
    ) -> Ranked:
        """Search every shard and keep the best k over all; `nprobe` and `num_candidates` mean nothing to a scan.

        Shards are visited in turn: FAISS already spreads the queries of a batch over the processors, and
        merging as we go needs room for 2·k candidates a query, whatever the number of shards.
        """
        ids, similarities = nothing_found(len(queries), k)
        if k == 0 or len(queries) == 0:
            return ids, similarities
        for shard in self._shards:
            more_ids, more_similarities = shard.search(queries, k)
            ids, similarities = best_k(
                np.concatenate((ids, more_ids), axis=1),
                np.concatenate((similarities, more_similarities), axis=1),
                k,
            )
        return ids, similarities
