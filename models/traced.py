"""A function of batches as one call: what `graphed` is for a GPU, for a processor.

A hundred small operations asked for one by one take longer to be asked for than to run, and each of them waits for the
interpreter's lock beside an event loop that is busy. TorchScript runs the same operations, bit for bit, without either.

torch only. Shapes: B items.
"""

import threading
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

_MOST: Final = 32  # traces; shapes that come later are computed as they are

_Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


class Traced:
    """A function on the CPU, traced. Safe to call from several threads."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        """Trace nothing yet.

        Args:
            function: of tensors (B, ...), none of which needs a gradient, to one (B, ...); its operations depend on the
                shapes behind B and on nothing else.
        """
        self._function = function
        self._lock = threading.Lock()
        self._traces: dict[_Shapes, Callable[..., Tensor]] = {}

    def __call__(self, *batch: Tensor) -> Tensor:
        """The function of a batch: tensors (B, ...) on the CPU to (B, ...)."""
        shapes = tuple((one.shape[1:], one.dtype) for one in batch)
        run = self._traces.get(shapes) or self._trace(shapes, batch)
        return run(*batch)

    def _trace(self, shapes: _Shapes, batch: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        with self._lock:
            if shapes not in self._traces and len(self._traces) < _MOST:
                self._traces[shapes] = _traced(self._function, batch)
            return self._traces.get(shapes, self._function)


def _traced(function: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """The function's trace, for any B; the function itself if torch makes none."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of its deprecation, and of Python values: these are of the shapes behind B
        try:
            traced: Callable[..., Tensor] = torch.jit.trace(function, batch, check_trace=False)
        except (AttributeError, RuntimeError):
            return function

    def run(*batch: Tensor) -> Tensor:
        # Optimised, it is compiled anew for sizes that it has not seen, for up to 0.4 s, and is no quicker.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return traced(*batch)

    return run
