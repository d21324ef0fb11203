"""The thread that owns FAISS's part of a GPU: its objects may be used by one thread at a time, so one uses them all."""

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from memory.indexing.kernels import faiss

MOST: Final = 2048  # neighbours and lists of a query: FAISS's own limit on a GPU
_SCRATCH_BYTES: Final = 512 << 20  # taken once, for the similarities of a batch; FAISS's default is three times that

P = ParamSpec("P")
Result = TypeVar("Result")


class GpuOwner:
    """One GPU, as FAISS uses it; `gpu_owner` gives each its own."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._thread = ThreadPoolExecutor(1, f"reco-gpu-{device}")
        self._resources = self.run(_resources)

    def run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call a function in the owner's thread, and wait for it; never from that thread."""
        return self._thread.submit(function, *args, **kwargs).result()

    def later(self, function: Callable[[], object]) -> None:
        """Call a function in the owner's thread some time."""
        self._thread.submit(function)

    def flat(self, embed_dim: int, *, half: bool = False) -> "GpuIndex":
        """An empty index that compares by inner product, in float32 or, `half`, in float16."""
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self.device, half
        return GpuIndex(self, lambda: faiss.GpuIndexFlatIP(self._resources, embed_dim, config))

    def copy(self, index: Any) -> "GpuIndex":
        """A CPU index, copied to the GPU."""
        return GpuIndex(self, lambda: faiss.index_cpu_to_gpu(self._resources, self.device, index))


class GpuIndex:
    """A FAISS index on a GPU: made, used and freed in its owner's thread, so safe to share between threads."""

    def __init__(self, owner: GpuOwner, make: Callable[[], Any]) -> None:
        """Make it; RuntimeError if the GPU has no room."""
        self._owner = owner
        self._held = [owner.run(make)]
        weakref.finalize(self, owner.later, self._held.clear).atexit = False

    def add(self, rows: NDArray[np.float32]) -> None:
        """Rows (n, D) to a flat index."""
        self.use(lambda index: index.add(rows))

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and row numbers of the `k` best, both (B, k)."""
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = self.use(lambda index: index.search(queries, k))
        return found

    def use(self, function: Callable[Concatenate[Any, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call a function with the index itself, which must not be kept."""
        return self._owner.run(lambda: function(self._held[0], *args, **kwargs))


def num_gpus() -> int:
    """GPUs that FAISS can use: 0 with faiss-cpu, or without a driver."""
    return int(faiss.get_num_gpus())


@cache
def gpu_owner(device: int) -> GpuOwner:
    """The owner of a GPU, the same for all of this process."""
    return GpuOwner(device)


def _resources() -> Any:
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_SCRATCH_BYTES)
    return resources
