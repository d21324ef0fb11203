"""Lanes of an accelerator: processes decode ahead into shared memory, and the device takes what is decoded.

Decoding holds the interpreter for a good part of its time, and an accelerator asks for thousands of images a second:
processes decode side by side, and nothing but the batches' descriptions is pickled. A process that dies or hangs costs
its batch one more try.
"""

import os
import queue
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from memory_builder.encoding.decoding import Candidate, Described, Refused
from memory_builder.encoding.lanes.decode_pool import DecodePool
from memory_builder.encoding.lanes.lane import Embeddings, Encoded, embed, join
from memory_builder.encoding.lanes.stage_times import StageTimes

if TYPE_CHECKING:
    from models.encoder import Encoder

_DEVICE_THREADS = 2  # while one waits for its answers, the other's batch is copied and begun
_SPARE_SLOTS = 2


class ProcessLanes:
    """As in Lanes; `workers` decode, and the device is fed by two threads with a stream each."""

    def __init__(self, encoder: "Encoder", *, workers: int, batch_size: int, thumbnail_px: int) -> None:
        self.ahead = workers + _DEVICE_THREADS
        self._encoder = encoder
        self._on_cuda = encoder.device.startswith("cuda")
        self._pool = DecodePool(encoder.preprocess, workers=workers, thumbnail_px=thumbnail_px)
        dtype = torch.uint8 if encoder.takes_raw else torch.float32
        self._slots = _Slots(self.ahead + _SPARE_SLOTS, (batch_size, 3, *encoder.preprocess.record["size"]), dtype)
        device_threads = _DEVICE_THREADS if self._on_cuda else 1
        self._times = StageTimes(device_threads)
        self._threads = ThreadPoolExecutor(device_threads, "device")

    def images(self, candidates: Sequence[Candidate]) -> Future[list[Encoded | Refused]]:
        """As in Lanes; waits while all shared memory is taken."""
        slot = self._slots.take()
        decode = partial(self._pool.decode, slot.path, self._slots.shape, self._slots.dtype, candidates)
        return self._threads.submit(self._images, slot, decode, decode())

    def texts(self, tokens: torch.Tensor) -> Future[list[Embeddings | None]]:
        """As in Lanes."""
        return self._threads.submit(self._texts, tokens)

    def seconds(self) -> Mapping[str, float]:
        """As in Lanes."""
        return self._times.seconds()

    def close(self) -> None:
        """As in Lanes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pool.close()
        self._slots.close()

    def _images(
        self,
        slot: "_Slot",
        decode: "Callable[[], Future[list[Described | Refused]]]",
        decoding: "Future[list[Described | Refused]]",
    ) -> list[Encoded | Refused]:
        try:
            with self._times.of("decode"):
                outcomes = self._pool.outcomes(decoding, decode)
            kept = sum(isinstance(outcome, Described) for outcome in outcomes)
            return join(outcomes, self._encode(self._encoder.encode_image, slot.pixels[:kept]) if kept else [])
        finally:
            self._slots.give_back(slot)

    def _texts(self, tokens: torch.Tensor) -> list[Embeddings | None]:
        return self._encode(self._encoder.encode_text, tokens)

    def _encode(
        self, encode: Callable[[torch.Tensor], NDArray[np.float32]], batch: torch.Tensor
    ) -> list[Embeddings | None]:
        with self._stream():
            if self._on_cuda:
                with self._times.of("copy"):
                    batch = batch.pin_memory().to(self._encoder.device, non_blocking=True)
            with self._times.of("encode"):
                return embed(encode, batch)

    def _stream(self) -> AbstractContextManager[object]:
        # A stream for each call, from torch's pool: a batch then waits for its own copy only.
        return torch.cuda.stream(torch.cuda.Stream()) if self._on_cuda else nullcontext()


class _Slot:
    """Memory for the pixels of one batch, which other processes of this machine can map while it is open."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        from memory_builder.encoding.lanes.decode_worker import map_slot

        self._file = _nameless_file()
        os.ftruncate(self._file, torch.Size(shape).numel() * dtype.itemsize)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        self.pixels = map_slot(self.path, shape, dtype)

    def close(self) -> None:
        os.close(self._file)


def _nameless_file() -> int:
    """A build that is killed leaves nothing behind in /dev/shm."""
    if sys.platform == "linux":
        return os.memfd_create("reco-pixels")
    raise OSError("only Linux has memory as a file without a name; BuildConfig refuses processes elsewhere")


class _Slots:
    """A fixed number of slots, each with one user at a time."""

    def __init__(self, count: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._all = [_Slot(shape, dtype) for _ in range(count)]
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self._all:
            self._free.put(slot)

    def take(self) -> _Slot:
        return self._free.get()

    def give_back(self, slot: _Slot) -> None:
        self._free.put(slot)

    def close(self) -> None:
        for slot in self._all:
            slot.close()
