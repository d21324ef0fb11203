"""Processes that decode; one that dies or hangs is replaced, and its batch tried once more."""

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from memory_builder.encoding.decoding import Candidate, Described, Refused
from memory_builder.encoding.lanes.decode_worker import begin, decode_into
from memory_builder.errors import WorkerLost
from models.images.preprocessor import Preprocessor

if TYPE_CHECKING:
    import torch

Outcomes = list[Described | Refused]

_HANGS_AFTER_S = 300.0  # a batch of the largest images that are accepted takes seconds


class DecodePool:
    """A pool of decoding processes. Safe to call from several threads."""

    def __init__(
        self, preprocess: Preprocessor, *, workers: int, thumbnail_px: int, hangs_after_s: float = _HANGS_AFTER_S
    ) -> None:
        self._arguments = (preprocess, thumbnail_px)
        self._workers = workers
        self._hangs_after_s = hangs_after_s
        self._lock = threading.Lock()
        self._processes = self._start()

    def decode(
        self, path: str, shape: tuple[int, ...], dtype: "torch.dtype", candidates: Sequence[Candidate]
    ) -> Future[Outcomes]:
        """Begin to decode a batch, as decode_worker.decode_into."""
        with self._lock:
            try:
                return self._processes.submit(decode_into, path, shape, dtype, candidates)
            except BrokenProcessPool:
                self._processes = self._start()
                return self._processes.submit(decode_into, path, shape, dtype, candidates)

    def outcomes(self, decoding: Future[Outcomes], again: Callable[[], Future[Outcomes]]) -> Outcomes:
        """Wait for a batch; `again` begins it anew if its process was lost.

        Raises:
            WorkerLost: twice.
            CorpusError: the source cannot be read on.
        """
        for attempt in (decoding, None):
            try:
                return (attempt or again()).result(self._hangs_after_s)
            except TimeoutError:
                self._kill()
            except BrokenProcessPool:
                continue
        raise WorkerLost

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._processes.shutdown(wait=True, cancel_futures=True)

    def _kill(self) -> None:
        """End processes that do not answer; the pool is then broken, and started again by the next batch."""
        with self._lock:
            for process in list(self._processes._processes.values()):
                process.kill()

    def _start(self) -> ProcessPoolExecutor:
        # Not fork: this process has threads, and torch's do not survive it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["models.images.fork_server", "memory_builder.encoding.lanes.decode_worker"])
        return ProcessPoolExecutor(self._workers, context, begin, self._arguments)
