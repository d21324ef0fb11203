"""What searches one modality of a memory, made of its opened shards.

numpy; FAISS objects come in opened. Shapes: B queries, K neighbours, N rows of a shard, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.format.manifest import SearchParameters
from memory.indexing.faiss_files import Trained
from memory.indexing.kernels import faiss
from memory.indexing.list_search import AliveRows, ListSearch, ListShard
from memory.searching.exact_search import ExactSearch, ShardSearch
from memory.searching.ranking import Ranked
from memory.searching.stored_rows import StoredRows


class Searcher(Protocol):
    """The search of one modality."""

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int | None = None, num_candidates: int | None = None
    ) -> Ranked:
        """The k nearest items of (B, D) queries: global ids and similarities, (B, k), missing ones last."""
        ...


class Part(NamedTuple):
    """The part of a modality that one segment holds.

    Attributes:
        shard: FAISS index of its rows, opened.
        rows: (N, D) float16.
        base_row: global id of row 0.
        deleted: rows (not ids) that no search may return.
    """

    shard: Any
    rows: NDArray[np.float16]
    base_row: int
    deleted: NDArray[np.int64]

    def alive(self) -> "_Alive | Any":
        """As `ShardSearch` takes it."""
        return _Alive(self.shard, AliveRows(len(self.rows), self.deleted)) if self.deleted.size else self.shard

    def as_lists(self) -> ListShard:
        """As `ListSearch` takes it."""
        alive = AliveRows(len(self.rows), self.deleted) if self.deleted.size else None
        return ListShard(self.shard, self.base_row, alive)


class _Alive:
    """A FAISS index of which some rows are passed over: those near removed ones would be found behind all of them."""

    def __init__(self, index: Any, alive: AliveRows) -> None:
        self._index, self._alive = index, alive
        self._parameters = faiss.SearchParameters()
        self._parameters.sel = alive.selector

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As FAISS's."""
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = self._index.search(queries, k, params=self._parameters)
        return found


def search_on_cpu(
    trained: Trained, parts: Sequence[Part], *, num_items: int, parameters: SearchParameters | None
) -> Searcher:
    """Search opened shards.

    Args:
        trained: of the generation.
        parts: in segment order.
        num_items: rows that are not deleted.
        parameters: of a search that names none; None for an exact index.
    """
    if parameters is None:
        shards = (ShardSearch(one.alive(), one.rows, base_row=one.base_row, deleted=one.deleted) for one in parts)
        return ExactSearch(tuple(shards))
    rows = StoredRows([part.rows for part in parts])
    lists = [part.as_lists() for part in parts]
    return ListSearch(trained, lists, rows, num_items=num_items, parameters=parameters)
