"""Class embeddings that were computed before: a repeated `/classify` costs its images only.

Keyed by all that they depend on, so that no version answers for another; bounded by bytes, the least recently used
go first. Whoever asks for what is being computed waits for that. Used from the event loop alone.
Depends on class_embeddings, metrics and problems.
"""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.classes.class_embeddings import Classes
from service.observing.metrics import Metrics
from service.pipeline.engine import Engine
from service.problems import Problem
from service.schemas.requests import EnhanceMode

_OVERHEAD_BYTES = 2048  # of an entry beside its arrays, roughly


@dataclass
class _Flight:
    """A computation under way and how many wait for it."""

    task: asyncio.Task[Classes]
    waiting: int = 0


class ClassCache:
    """`Classes` by key."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        """Nothing is kept with `max_bytes` 0; what is under way is shared all the same."""
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._entries: OrderedDict[str, Classes] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._bytes = 0

    def peek(self, key: str) -> Classes | None:
        """What is kept, if it is; counts nothing."""
        return self._entries.get(key)

    async def get(
        self,
        key: str,
        deadline: float,
        compute: Callable[[], Coroutine[Any, Any, Classes]],
        pay: Callable[[], Callable[[], None]],
    ) -> Classes:
        """What is kept, or what `compute` gives; that runs once for all who ask meanwhile.

        Args:
            deadline: of whoever asks, on `time.monotonic`; `compute` keeps to the deadline of who asked first.
            pay: called before `compute` is, for whom it runs, and what it returns if nothing comes of that; if it
                raises, nothing is computed, and who asks at the same time never hears of it.

        Raises:
            Problem: as `compute` and `pay` do.
        """
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
            self._count("hit")
            return found
        while True:
            flight = self._flights.get(key)
            joined = flight is not None
            if flight is None:
                give_back = pay()
                flight = self._flights[key] = _Flight(asyncio.ensure_future(compute()))
                flight.task.add_done_callback(partial(self._land, key, flight, give_back))
            self._count("joined" if joined else "miss")
            try:
                return await self._wait(key, flight)
            except Problem as problem:
                # Its time is up for who asked first; we came later.
                if not joined or problem.code != "deadline_exceeded" or time.monotonic() >= deadline:
                    raise

    async def _wait(self, key: str, flight: _Flight) -> Classes:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:  # the last of them has left: nobody wants it, and nobody may join it
                flight.task.cancel()
                self._forget(key, flight)
                del flight.task  # if it failed, its error holds this frame, and would hold itself by it

    def _forget(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _land(self, key: str, flight: _Flight, give_back: Callable[[], None], task: asyncio.Task[Classes]) -> None:
        self._forget(key, flight)
        if task.cancelled() or task.exception() is not None:
            give_back()
            return
        classes = task.result()
        size = _size(classes)
        if size > self._max_bytes:
            return
        if key in self._entries:
            self._bytes -= _size(self._entries.pop(key))
        self._entries[key] = classes
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= _size(self._entries.popitem(last=False)[1])
        self._metrics.class_cache_bytes.set(self._bytes)

    def _count(self, outcome: str) -> None:
        self._metrics.class_cache.labels(outcome).inc()


def free(_: int = 0) -> Callable[[], None]:
    """The bill where there is none to pay."""
    return lambda: None


def class_key(engine: Engine, labels: Sequence[str], templates: Sequence[str], mode: EnhanceMode, k: int) -> str:
    """The name of all that class embeddings depend on: encoder, fusion, memory, and what was asked."""
    parts = [
        engine.original_space,
        engine.space,
        engine.memory.version,
        engine.memory.digest,
        mode,
        None if mode == "none" else k,
        list(labels),
        list(templates),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _size(classes: Classes) -> int:
    refined = 0 if classes.refined is None else classes.refined.nbytes
    return classes.original.nbytes + refined + _OVERHEAD_BYTES
