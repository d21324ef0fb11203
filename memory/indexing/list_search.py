"""Approximate top-k over all shards of lists: nearest lists once, their codes in every shard, the fp16 rows to rank.

    query -> rotate -> nearest lists (once) -> each shard: best codes in them -> best candidates of all shards
          -> exact similarity from the rows -> k best

Codes only propose: similarity and order are those of an exact search (ranking.py). What is not proposed is missed; how
often is measured when an index is built. Search parameters travel with the call: an opened index never changes.

numpy; FAISS objects come in opened. Shapes: B queries, K neighbours, C candidates, P lists, D embedding dimension.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.format.manifest import SearchParameters
from memory.indexing.coarse import NO_LIST, Coarse, deal, shortfall
from memory.indexing.faiss_files import Trained, search_lists
from memory.indexing.kernels import faiss, usable_threads
from memory.searching.ranking import MISSING, NOWHERE, Ranked, best_k, exact_similarities, nothing_found
from memory.searching.stored_rows import StoredRows

# One query alone is shared by threads from so many codes each on: 0.1 ms of work, a few times what waking one takes.
_SHARED_CODES: Final = 8192
MEASURED_K: Final = 10  # `num_candidates` was chosen for this many neighbours; more of them need more candidates


class SearchableLists(Protocol):
    """A shard as `ListSearch` sees it, wherever its codes lie; `index` is the FAISS IVF on the CPU."""

    @property
    def index(self) -> Any: ...

    def search(self, rotated: NDArray[np.float32], coarse: Coarse, count: int) -> Ranked:
        """The best codes in lists that are chosen already, best first.

        Returns:
            Global ids and approximate similarities, (B, at least `count`), missing ones anywhere.
        """
        ...


class ListShard(NamedTuple):
    """An opened shard.

    Attributes:
        index: FAISS IVF over the rows of a segment, with the quantiser of the generation.
        base_row: global id of row 0.
        selector: FAISS selector of the rows that are not deleted; None selects all.
    """

    index: Any
    base_row: int
    selector: "AliveRows | None"

    def search(self, rotated: NDArray[np.float32], coarse: Coarse, count: int) -> Ranked:
        """As `SearchableLists.search`, (B, count), missing ones last."""
        selector = None if self.selector is None else self.selector.selector
        codes, rows = search_lists(self.index, rotated, coarse, count, selector)
        found = rows >= 0
        codes[~found] = NOWHERE
        return np.where(found, rows + self.base_row, MISSING), codes


class AliveRows:
    """A FAISS selector of rows that are not deleted, and the bits it looks at."""

    def __init__(self, rows: int, deleted: NDArray[np.int64]) -> None:
        alive = np.ones(rows, dtype=np.bool_)
        alive[deleted] = False
        self._bits = np.packbits(alive, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(self._bits)


class ListSearch:
    """All shards of one modality; immutable, safe for several threads."""

    def __init__(
        self,
        trained: Trained,
        shards: Sequence[SearchableLists],
        rows: StoredRows,
        *,
        num_items: int,
        parameters: SearchParameters,
    ) -> None:
        """Tie opened shards to what they were trained as, and to the rows they were built from.

        Args:
            trained: of the generation.
            shards: in segment order.
            rows: of all segments.
            num_items: rows that are not deleted.
            parameters: of a search that names none.
        """
        assert trained.lists is not None, "an exact index is searched by ExactSearch"
        self._trained = trained
        self._quantiser = trained.lists.quantizer
        self._num_lists = int(trained.lists.nlist)
        # the SIMD layout rounds codes by all lists of a query: dealt out they would come out otherwise
        self._may_share = not isinstance(trained.lists, faiss.IndexIVFFastScan)
        self._shards = tuple(shards)
        self._rows = rows
        self._num_items = num_items
        self._parameters = parameters

    def with_parameters(self, parameters: SearchParameters) -> "ListSearch":
        """The same shards, searched in another way where a search says nothing else."""
        other = copy(self)
        other._parameters = parameters
        return other

    def moved(self, trained: Trained, shards: Sequence[SearchableLists]) -> "ListSearch":
        """The same search with its centroids and codes on another device, whose threads are its own business."""
        other = copy(self)
        assert trained.lists is not None, "an exact index is searched by ExactSearch"
        other._trained, other._quantiser, other._shards = trained, trained.lists.quantizer, tuple(shards)
        other._may_share = False
        return other

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int | None = None, num_candidates: int | None = None
    ) -> Ranked:
        """The k best of what the nearest lists hold; more lists are looked at if those hold fewer than k.

        Args:
            queries: (B, D) float32, unit norm, C-contiguous.
            k: at least 0.
            nprobe: lists, the same number for each query; as many as the index's own parameters say if None.
            num_candidates: rows to rank for 10 neighbours, in proportion for more; the index's own number if None.

        Returns:
            Global ids and similarities, (B, k); missing only where the memory has fewer than k items.
        """
        ids, similarities = nothing_found(len(queries), k)
        wanted = min(k, self._num_items)
        if wanted == 0 or len(queries) == 0:
            return ids, similarities
        per_ten = num_candidates or self._parameters.num_candidates
        count = max(per_ten, per_ten * wanted // MEASURED_K, wanted)
        probes = min(nprobe or self._parameters.nprobe, self._num_lists)
        margin = self._parameters.margin if nprobe is None else None
        rotated = self._trained.rotate(queries)
        pending = np.arange(len(queries))
        while pending.size:
            candidates = self._propose(rotated[pending], count, self.nearest_lists(rotated[pending], probes, margin))
            best, exact = best_k(candidates, self.similarities(queries[pending], candidates), wanted)
            settled = (best[:, -1] != MISSING) | (probes == self._num_lists and margin is None)
            ids[pending[settled], :wanted] = best[settled]
            similarities[pending[settled], :wanted] = exact[settled]
            pending = pending[~settled]
            probes, margin = min(self._num_lists, 4 * probes), None
        return ids, similarities

    @property
    def num_lists(self) -> int:
        return self._num_lists

    def propose(
        self, queries: NDArray[np.float32], count: int, nprobe: int, margin: float | None = None
    ) -> NDArray[np.int64]:
        """The candidates of a search, best code first: (B, count) global ids, -1 beyond what the lists hold."""
        rotated = self._trained.rotate(queries)
        return self._propose(rotated, count, self.nearest_lists(rotated, nprobe, margin))

    def similarities(self, queries: NDArray[np.float32], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact similarities, (B, C), of candidates; `NOWHERE` for those that are missing."""
        missing = candidates == MISSING
        exact = exact_similarities(queries, np.where(missing, 0, candidates), self._rows.take)
        exact[missing] = NOWHERE
        return exact

    def rotate(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as the lists know them, (n, D) to (n, D)."""
        return self._trained.rotate(rows)

    def nearest_lists(self, rotated: NDArray[np.float32], nprobe: int, margin: float | None = None) -> Coarse:
        """The coarse step, once for all shards: which lists a query looks at.

        Queries differ in how many lists their neighbours are spread over, and the similarities to the centroids tell:
        where they fall slowly, many lists are as good as the nearest.

        Args:
            rotated: (B, D) float32.
            nprobe: P, lists at most.
            margin: as `SearchParameters.margin`.
        """
        similarities, lists = self._quantiser.search(rotated, nprobe)
        if margin is not None:
            lists = np.where(shortfall(similarities) <= np.float32(margin), lists, NO_LIST)
        return Coarse(lists, similarities)

    def list_rows(self) -> NDArray[np.int64]:
        """Rows in each list, (lists,), over all shards; deleted ones included."""
        sizes = [[shard.index.invlists.list_size(n) for n in range(self._num_lists)] for shard in self._shards]
        total: NDArray[np.int64] = np.asarray(sizes, dtype=np.int64).sum(axis=0)
        return total

    def _propose(self, rotated: NDArray[np.float32], count: int, coarse: Coarse) -> NDArray[np.int64]:
        shares = self._shares(coarse.lists) if self._may_share and len(rotated) == 1 else 1
        if shares > 1:
            rotated, coarse = rotated.repeat(shares, axis=0), deal(coarse, shares)
        found = [shard.search(rotated, coarse, count) for shard in self._shards]
        if len(found) == shares == 1:
            return found[0][0]
        # codes of one generation are comparable, for the shards share their quantiser
        ids, codes = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        if shares > 1:
            ids, codes = ids.reshape(1, -1), codes.reshape(1, -1)
        return best_k(ids, codes, count)[0]

    def _shares(self, lists: NDArray[np.int64]) -> int:
        """How many threads the lists (1, P) of one query are worth."""
        codes = int(np.count_nonzero(lists != NO_LIST)) * self._num_items // self._num_lists
        return max(1, min(usable_threads(), codes // _SHARED_CODES))
