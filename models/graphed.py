"""A function of batches as CUDA graphs: a GPU takes longer to be asked for two hundred small kernels than to run them.

A graph asks for all of them at once, and holds the interpreter for none of it. Each belongs to one shape of input: a
batch is padded to the next of a few sizes, and what stands in the rows behind it has no part in its own. Graphs are
made when a shape comes for the first time, share one pool of memory, and run one at a time.

torch only. Shapes: B items.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

SIZES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # beyond, kernels take longer than asking for them
_MOST: Final = 128  # graphs; shapes that come later are computed as they are
_REHEARSALS: Final = 3  # torch sets itself up in the first runs, which a graph cannot record


def sizes_up_to(most: int) -> tuple[int, ...]:
    """The sizes that batches of up to `most` items are padded to."""
    return tuple(size for before, size in zip((0, *SIZES), SIZES, strict=False) if before < most)


class Graphed:
    """A function on the GPU, recorded. Safe to call from several threads."""

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        """Record nothing yet.

        Args:
            function: of tensors (B, ...) on the device, to one (B, ...); row i of all makes row i of that.
            device: a CUDA device.
        """
        self._function = function
        self._device = device
        self._lock = threading.Lock()
        self._recorded: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Recording] = {}
        self._pool: Any = None  # torch's handle, once there is a graph

    def __call__(self, *batch: Tensor) -> Tensor:
        """The function of a batch.

        Args:
            batch: tensors (B, ...), on the device or on the CPU; from pinned memory the copy is quickest.

        Returns:
            (B, ...) on the CPU, of the function's dtype.
        """
        count = len(batch[0])
        size = next((size for size in SIZES if size >= count), None)
        with self._lock, torch.cuda.device(self._device), torch.inference_mode():
            recording = None if size is None else self._recording(size, batch)
            if recording is None:
                return self._function(*(one.to(self._device, non_blocking=True) for one in batch)).cpu()
            for given, one in zip(recording.given, batch, strict=True):
                given[:count].copy_(one, non_blocking=True)
            recording.graph.replay()
            return recording.made[:count].cpu()

    def _recording(self, size: int, batch: tuple[Tensor, ...]) -> "_Recording | None":
        shapes = tuple((torch.Size((size, *one.shape[1:])), one.dtype) for one in batch)
        if shapes not in self._recorded and len(self._recorded) < _MOST:
            self._recorded[shapes] = self._record(shapes)
        return self._recorded.get(shapes)

    def _record(self, shapes: tuple[tuple[torch.Size, torch.dtype], ...]) -> "_Recording":
        given = tuple(torch.zeros(shape, dtype=dtype, device=self._device) for shape, dtype in shapes)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_REHEARSALS):
                self._function(*given)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of the GPU meanwhile, as a search, is none of the recording's business
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            made = self._function(*given)
        self._pool = self._pool or graph.pool()
        return _Recording(graph, given, made)


class _Recording(NamedTuple):
    """A graph, where it reads and where it writes."""

    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    made: Tensor
