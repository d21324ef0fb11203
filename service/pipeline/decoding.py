"""Where images are decoded: in threads beside an encoder on a CPU, in processes beside an accelerator.

Decoding holds the interpreter for a third of its time. Threads that decode for an accelerator keep it from the thread
that feeds the accelerator: beside 14 of them a batch that takes 1.5 ms took 14 (docs/gpu.md). Processes cost a copy of
the pixels. One that dies takes the others of its pool with it; a new pool decodes what they were at once more.
"""

import asyncio
import multiprocessing
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import torch

from models.images.decode_process import begin, decode, pixels_of, ready
from models.images.headers import image_error
from models.images.preprocessor import Preprocessor

_ATTEMPTS = 2  # an image that ends two pools is to blame


class Decoders(Protocol):
    """What the pipeline asks of them."""

    async def decode(self, data: bytes) -> torch.Tensor:
        """An image file to the encoder's input, (3, S, S); raises ImageError."""
        ...

    def start(self) -> None:
        """Be ready to decode; blocks meanwhile."""

    def stop(self) -> None:
        """Drop what waits, and end."""


class DecodeThreads:
    """As Decoders."""

    def __init__(self, preprocess: Preprocessor, workers: int, *, raw: bool) -> None:
        """Threads; `raw` pixels or normalised ones, as the encoder takes them."""
        self._preprocess, self._raw = preprocess, raw
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="reco-decode")

    async def decode(self, data: bytes) -> torch.Tensor:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decode, data)

    def start(self) -> None:
        """Threads start by themselves."""

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, data: bytes) -> torch.Tensor:
        return self._preprocess(data, raw=self._raw)


class DecodeProcesses:
    """As Decoders; the pixels are raw."""

    def __init__(self, preprocess: Preprocessor, workers: int) -> None:
        self._preprocess, self._workers = preprocess, workers
        self._lock = threading.Lock()
        self._pool = self._start()

    async def decode(self, data: bytes) -> torch.Tensor:
        for _ in range(_ATTEMPTS):
            pool = self._pool
            try:
                raw = await asyncio.get_running_loop().run_in_executor(pool, decode, data)
                return pixels_of(raw, self._preprocess)
            except BrokenProcessPool:
                self._replace(pool)
        raise image_error("image_undecodable")

    def start(self) -> None:
        """The first process loads torch, which takes longer than a request may; the others are forked from it."""
        wait([self._pool.submit(ready) for _ in range(self._workers)])

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _replace(self, broken: Executor) -> None:
        with self._lock:
            if self._pool is broken:  # the first to notice
                self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Not fork: this process has threads, and torch's do not survive it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["models.images.decode_process"])
        return ProcessPoolExecutor(self._workers, context, begin, (self._preprocess,))
