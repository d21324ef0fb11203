"""Lists of 8-bit codes in a GPU's memory: for memories whose rows do not fit there.

What a GPU cannot do, more than `MOST` lists or candidates for a query, is left to the shard on the CPU. It knows no
selector of rows either: candidates that are deleted are dropped, and so many more are asked for.

Shapes: B queries, C candidates, P lists, D embedding dimension.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.indexing.coarse import Coarse
from memory.indexing.faiss_files import Trained, search_lists
from memory.indexing.gpu.owner import MOST, GpuOwner
from memory.indexing.list_search import ListShard
from memory.searching.ranking import MISSING, NOWHERE, Ranked


class GpuLists:
    """A shard of lists and its copy on a GPU; what `ListSearch` asks of a `ListShard`."""

    def __init__(self, owner: GpuOwner, shard: ListShard, *, deleted: NDArray[np.int64]) -> None:
        """Copy the codes to the GPU.

        Args:
            owner: of the GPU.
            shard: opened.
            deleted: rows of the shard that no search may return.

        Raises:
            RuntimeError: no room on the GPU.
        """
        self.index = shard.index
        self._shard = shard
        self._copy = owner.copy(shard.index)
        self._deleted = deleted

    def search(self, rotated: NDArray[np.float32], coarse: Coarse, count: int) -> Ranked:
        """As `ListShard.search`; with deleted rows up to twice as many candidates, the missing ones among them."""
        fetch = count + min(count, len(self._deleted))
        if max(fetch, coarse.lists.shape[1]) > MOST:
            return self._shard.search(rotated, coarse, count)
        codes, rows = self._copy.use(search_lists, rotated, coarse, fetch)
        found = (rows >= 0) & ~np.isin(rows, self._deleted)
        codes[~found] = NOWHERE
        return np.where(found, rows + self._shard.base_row, MISSING), codes


class GpuQuantiser:
    """The centroids of a generation on a GPU: the coarse step of a search."""

    def __init__(self, owner: GpuOwner, quantiser: Any) -> None:
        self._quantiser = quantiser
        self._copy = owner.copy(quantiser)

    def search(self, rotated: NDArray[np.float32], nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities to the nearest centroids and their numbers, both (B, P)."""
        nearest = self._quantiser if nprobe > MOST else self._copy
        similarities, lists = nearest.search(rotated, nprobe)
        return similarities, lists


class _GpuCentroids(NamedTuple):
    """What `ListSearch` reads of the empty lists of `Trained`."""

    quantizer: GpuQuantiser
    nlist: int


def trained_on_gpu(owner: GpuOwner, trained: Trained) -> Trained:
    """The same, with its centroids on the GPU."""
    assert trained.lists is not None, "an exact index has no lists"
    centroids = _GpuCentroids(GpuQuantiser(owner, trained.lists.quantizer), int(trained.lists.nlist))
    return trained._replace(lists=centroids)
