"""Memory that a GPU copies from by itself, kept by each thread for its next batch. torch only."""

import threading
from collections.abc import Sequence

import torch


class _Own(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}


class PinnedRows:
    """Rows of a batch, together in pinned memory.

    It is not freed before its owner is, even when a thread ends: torch frees pinned memory by asking the GPU, and where
    that is lost, the process would be aborted in the middle of telling its clients.
    """

    def __init__(self) -> None:
        self._own = _Own()
        self._all: list[torch.Tensor] = []

    def stack(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Rows of one shape and dtype, (B, ...), until the thread's next call."""
        first = rows[0]
        kept = self._own.buffers
        buffer = kept.get((first.shape, first.dtype))
        if buffer is None or len(buffer) < len(rows):
            size = 1 << (len(rows) - 1).bit_length()  # doubling, for the smaller ones are kept, too
            buffer = torch.empty((size, *first.shape), dtype=first.dtype, pin_memory=True)
            kept[first.shape, first.dtype] = buffer
            self._all.append(buffer)
        return torch.stack(list(rows), out=buffer[: len(rows)])
