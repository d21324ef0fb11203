"""What searches one modality of a memory on a GPU, and what of that the CPU does."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory.errors import GpuSearchUnavailable
from memory.indexing.faiss_files import Trained
from memory.indexing.gpu.lists import GpuLists, trained_on_gpu
from memory.indexing.gpu.owner import MOST, GpuOwner, gpu_owner
from memory.indexing.gpu.placing import Placed
from memory.indexing.gpu.rows import GpuRows
from memory.indexing.list_search import ListSearch
from memory.indexing.searcher import Part, Searcher
from memory.searching.exact_search import ExactSearch
from memory.searching.ranking import Ranked


class GpuSearcher:
    """On a GPU, but for what only the shards on the CPU know: how to search by lists if the GPU scans rows, and more
    than `MOST` neighbours."""

    def __init__(self, on_gpu: Searcher, on_cpu: Searcher) -> None:
        self._on_gpu, self._on_cpu = on_gpu, on_cpu

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int | None = None, num_candidates: int | None = None
    ) -> Ranked:
        """As `Searcher.search`."""
        of_lists = nprobe is not None or num_candidates is not None
        searcher = self._on_cpu if of_lists or k > MOST else self._on_gpu
        return searcher.search(queries, k, nprobe=nprobe, num_candidates=num_candidates)


def search_on_gpu(on_cpu: Searcher, trained: Trained, parts: Sequence[Part], placed: Placed) -> Searcher:
    """Copy to a GPU what is to be searched there.

    Args:
        on_cpu: the same shards, opened.
        trained: of the generation.
        parts: in segment order.
        placed: which GPU, and what of the memory.

    Raises:
        GpuSearchUnavailable: no room on the GPU.
    """
    assert placed.gpu is not None, "nothing goes to a GPU"
    try:
        return _copied(gpu_owner(placed.gpu.device), on_cpu, trained, parts, placed)
    except RuntimeError as error:  # FAISS has no other
        reason = str(error).strip().splitlines()[-1]
        raise GpuSearchUnavailable(f"{placed.gpu.name} cannot hold this memory: {reason}") from error


def _copied(owner: GpuOwner, on_cpu: Searcher, trained: Trained, parts: Sequence[Part], placed: Placed) -> Searcher:
    if placed.scans == "rows":
        shards = [GpuRows(owner, one.rows, base_row=one.base_row, deleted=one.deleted) for one in parts]
        return GpuSearcher(ExactSearch(shards), on_cpu)
    assert isinstance(on_cpu, ListSearch), "an exact index is scanned"
    lists = [GpuLists(owner, part.as_lists(), deleted=part.deleted) for part in parts]
    return GpuSearcher(on_cpu.moved(trained_on_gpu(owner, trained), lists), on_cpu)
