"""What computes, once a process: the decode pools and the batcher. Generations come and go, these stay.

Depends on torch, batcher, engine, metrics, settings and watchdog.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from memory import Modality
from models.devices import choose_threads
from models.encoder import Encoder
from service.observing.metrics import Metrics
from service.pipeline.batch import LANES, Batch, Done
from service.pipeline.batcher import Batcher
from service.pipeline.decoding import DecodeProcesses, Decoders, DecodeThreads
from service.pipeline.engine import Answer, Engine, Query
from service.pipeline.own_thread import in_its_own_thread
from service.pipeline.undecoded import Undecoded
from service.pipeline.watchdog import Watchdog
from service.settings import Settings

ResultT = TypeVar("ResultT")

_TEXT_WORKERS = 1  # tokenising holds the interpreter's lock; a thread of its own keeps it out of the images' queue
_WEIGHERS = 1  # large label sets one at a time: the neighbours of one take hundreds of megabytes
_ON_CPU, _ON_ACCELERATOR = 2, 1  # batches at once

# Of niceness: about a third of the processor time of an equal that wants all of it. No setting: more starves a batch
# beside decoders that never pause, less leaves the event loop waiting, and `nice` moves the whole process.
_GIVES_WAY = 5
_USABLE_SHARE = 0.7  # of a request's time, for waiting and computing: the rest is decoding, and error of the estimate


@dataclass(frozen=True)
class EngineQuery:
    """A query and the engine that its request is to be answered by."""

    engine: Engine
    query: Query


class Workers:
    """The threads of one process."""

    def __init__(self, settings: Settings, metrics: Metrics, encoder: Encoder) -> None:
        """Prepare; `start` begins. The encoder's device decides how many batches are computed at once, and where images
        are decoded."""
        self._metrics = metrics
        self._cores = choose_threads(settings.threads)
        own = min(_ON_CPU, self._cores) if encoder.device == "cpu" else _ON_ACCELERATOR
        self.images = _decoders(settings, encoder)
        self.undecoded = Undecoded(settings.max_inflight_pixels)
        self.texts = ThreadPoolExecutor(_TEXT_WORKERS, thread_name_prefix="reco-tokenize")
        self._weighers = ThreadPoolExecutor(_WEIGHERS, thread_name_prefix="reco-weighing")
        self._short_weighers = ThreadPoolExecutor(_WEIGHERS, thread_name_prefix="reco-weighing-short")
        self.batcher: Batcher[EngineQuery, Answer] = Batcher(
            compute,
            max_batch_size=settings.max_batch_size,
            max_queue_items=settings.max_queue_items,
            max_batch_s=settings.max_batch_ms / 1000,
            max_wait_s=_USABLE_SHARE * settings.request_timeout_s,
            concurrent_batches=settings.concurrent_batches or own,
            on_thread=partial(_give_way, encoder.device),
            on_share=self._take_cores,
            on_batch=self._observe,
            on_restart=metrics.worker_restarts.inc,
        )
        self.watchdog = Watchdog(self.batcher, max_batch_s=settings.hang_timeout_s)
        metrics.undecoded.set_function(lambda: self.undecoded.pixels)
        for lane in LANES:
            metrics.queue_depth.labels(lane).set_function(partial(self.batcher.admitted, lane))

    def start(self) -> None:
        """Begin to decode and to compute; blocks until decoders are ready."""
        self.images.start()
        self.batcher.start()
        self.watchdog.start()

    def stop(self) -> None:
        """End all threads; blocks until the batch under way is done."""
        self.batcher.stop()
        self.watchdog.stop()
        self.images.stop()
        for pool in (self.texts, self._weighers, self._short_weighers):
            pool.shutdown(cancel_futures=True)

    def submit(
        self, engine: Engine, modality: Modality, queries: Sequence[Query], deadline: float
    ) -> list[Future[Done[Answer]]]:
        """Queue queries for an engine; see `Batcher.submit`."""
        return self.batcher.submit(modality, [EngineQuery(engine, query) for query in queries], deadline)

    def weigh(self, job: Callable[[], ResultT], *, short: bool) -> asyncio.Future[ResultT]:
        """Have a job on a label set done with all cores; one comes after the other, but no short one after a long one.

        A set of a thousand labels takes longer than those who ask with five may wait.
        """

        def with_all_cores() -> ResultT:
            self._take_cores(1.0)
            return job()

        alone = partial(in_its_own_thread, with_all_cores, "reco-weigh")
        pool = self._short_weighers if short else self._weighers
        return asyncio.get_running_loop().run_in_executor(pool, alone)

    def _take_cores(self, share: float) -> None:
        """Of torch in the thread that calls; it is OpenMP's number for that thread alone."""
        torch.set_num_threads(max(1, round(share * self._cores)))

    def _observe(self, batch: Batch) -> None:
        self._metrics.last_success.set_to_current_time()
        self._metrics.batch_size.labels(batch.modality).observe(batch.size)
        self._metrics.observe_stages(batch.seconds)


def _give_way(device: str) -> None:
    """Let the event loop and the decoders go before the thread that calls, and those that torch starts for it.

    They need a core for moments, and whoever waits for one of these waits for a whole batch's turn otherwise. Only
    Linux has priorities of threads; it costs nothing where cores are free. Feeding an accelerator takes moments, too.
    """
    if device == "cpu" and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _GIVES_WAY)


def _decoders(settings: Settings, encoder: Encoder) -> Decoders:
    auto = "threads" if encoder.device == "cpu" else "processes"
    if (auto if settings.decoding == "auto" else settings.decoding) == "processes":
        return DecodeProcesses(encoder.preprocess, settings.decode_workers)
    return DecodeThreads(encoder.preprocess, settings.decode_workers, raw=encoder.takes_raw)


def compute(modality: Modality, asked: Sequence[EngineQuery]) -> tuple[list[Answer], dict[str, float]]:
    """Compute a batch, the items of each engine together; see `Engine.compute`.

    A batch has items of two engines only while one takes over from the other.
    """
    engines = dict.fromkeys(one.engine for one in asked)
    answers: list[Answer | None] = [None] * len(asked)
    seconds: dict[str, float] = {}
    for engine in engines:
        rows = [row for row, one in enumerate(asked) if one.engine is engine]
        found, spent = engine.compute(modality, [asked[row].query for row in rows])
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        for stage, value in spent.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return [answer for answer in answers if answer is not None], seconds
