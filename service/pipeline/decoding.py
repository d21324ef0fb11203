"""Where images are decoded: in threads beside an encoder on a CPU, in processes beside an accelerator.

Decoding holds the interpreter for a third of its time. Threads that decode for an accelerator keep it from the thread
that feeds the accelerator: beside 14 of them a batch that takes 1.5 ms took 14 (docs/gpu.md). Processes cost a copy of
the pixels. One that dies takes the others of its pool with it, and nobody knows which image was to blame: all that the
pool had are decoded again, one at a time, in a process where only the one that ends it fails.
"""

import asyncio
import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import torch

from models.images.decode_process import begin, decode, pixels_of, ready
from models.images.headers import image_error
from models.images.preprocessor import Preprocessor


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
        self._pool = ThreadPoolExecutor(workers, "reco-decode", torch.set_num_threads, (1,))

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
        self._preprocess = preprocess
        self._all = _Pool(preprocess, workers)
        self._single = _Pool(preprocess, 1)  # of no processes until an image has to be decoded alone
        self._alone = asyncio.Lock()

    async def decode(self, data: bytes) -> torch.Tensor:
        try:
            return await self._in(self._all, data)
        except BrokenProcessPool:
            pass
        async with self._alone:
            try:
                return await self._in(self._single, data)
            except BrokenProcessPool:
                raise image_error("image_undecodable") from None

    def start(self) -> None:
        """The first process loads torch, which takes longer than a request may; the others are forked from it."""
        self._all.start()

    def stop(self) -> None:
        self._all.stop()
        self._single.stop()

    async def _in(self, pool: "_Pool", data: bytes) -> torch.Tensor:
        while True:
            executor = pool.executor
            try:
                work = asyncio.get_running_loop().run_in_executor(executor, decode, data)
            except BrokenProcessPool:  # before this image came
                await pool.replace(executor)
                continue
            try:
                return pixels_of(await work, self._preprocess)
            except BrokenProcessPool:
                await pool.replace(executor)
                raise


class _Pool:
    """Processes that decode, and others in their place when one has died."""

    def __init__(self, preprocess: Preprocessor, workers: int) -> None:
        self._preprocess, self._workers = preprocess, workers
        self._renewing: asyncio.Future[None] | None = None
        self.executor = self._new()

    def start(self) -> None:
        """Have all processes; blocks until they are there."""
        self._start(self.executor)

    def stop(self) -> None:
        self.executor.shutdown(cancel_futures=True)

    async def replace(self, broken: Executor) -> None:
        """Begin anew, if nobody has; in one thread for all who wait, for the server of forks may be gone, too."""
        if self.executor is broken:
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.ensure_future(asyncio.to_thread(self._renew))
            await asyncio.shield(self._renewing)  # who leaves does not leave half a pool

    def _renew(self) -> None:
        executor = self._new()
        self._start(executor)
        self.executor = executor

    def _start(self, executor: Executor) -> None:
        wait([executor.submit(ready) for _ in range(self._workers)])

    def _new(self) -> ProcessPoolExecutor:
        # Not fork: this process has threads, and torch's do not survive it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["models.images.fork_server"])
        return ProcessPoolExecutor(self._workers, context, begin, (self._preprocess,))
