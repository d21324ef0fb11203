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

_GOES_ON_S = 60.0  # when the time of who asked is up
_MOST_LEFT = 4  # computations that nobody waits for; each has a part of a batch in the queue at a time
OVERHEAD_BYTES = 2048  # of an entry beside its arrays, roughly


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
        self._left: dict[str, _Flight] = {}  # of these, those that nobody has time to wait for; the oldest first
        self.bytes = 0

    def peek(self, key: str) -> Classes | None:
        """What is kept, if it is; counts nothing."""
        return self._entries.get(key)

    async def get(
        self,
        key: str,
        deadline: float,
        compute: Callable[[float], Coroutine[Any, Any, Classes]],
        pay: Callable[[], Callable[[], None]],
    ) -> Classes:
        """What is kept, or what `compute` gives; that runs once for all who ask meanwhile.

        It goes on where the time of all who asked is up: a large label set takes longer than a request may, and whoever
        asks again finds it further, or done. Who leaves before that ends it, unless others wait.

        Args:
            deadline: of whoever asks, on `time.monotonic`.
            compute: gets a deadline of its own, which is later.
            pay: called before `compute` is, for whom it runs, and what it returns if nothing comes of that; if it
                raises, nothing is computed, and who asks at the same time never hears of it.

        Raises:
            Problem: deadline_exceeded, and as `compute` and `pay` do.
        """
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
            self._count("hit")
            return found
        flight = self._flights.get(key)
        self._count("miss" if flight is None else "joined")
        if flight is None:
            give_back = pay()
            flight = self._flights[key] = _Flight(asyncio.ensure_future(compute(deadline + _GOES_ON_S)))
            flight.task.add_done_callback(partial(self._land, key, flight, give_back))
        self._left.pop(key, None)
        return await self._wait(key, flight, deadline)

    def stop(self) -> None:
        """End what is computed."""
        for flight in self._flights.values():
            flight.task.cancel()

    async def _wait(self, key: str, flight: _Flight, deadline: float) -> Classes:
        flight.waiting += 1
        late = False
        try:
            done, _ = await asyncio.wait((flight.task,), timeout=max(0.0, deadline - time.monotonic()))
            late = not done
            if late:
                raise Problem("deadline_exceeded")
            return flight.task.result()
        finally:
            flight.waiting -= 1
            if not flight.waiting and late:
                self._leave(key, flight)
            elif not flight.waiting:  # the last of them has left: nobody wants it, and nobody may join it
                flight.task.cancel()
                self._forget(key, flight)
                del flight.task  # if it failed, its error holds this frame, and would hold itself by it

    def _leave(self, key: str, flight: _Flight) -> None:
        """Let a computation go on for whoever asks again; of many those that were left last."""
        self._left[key] = flight
        if len(self._left) > _MOST_LEFT:
            oldest, other = next(iter(self._left.items()))
            other.task.cancel()
            self._forget(oldest, other)

    def _forget(self, key: str, flight: _Flight) -> None:
        for flights in (self._flights, self._left):
            if flights.get(key) is flight:
                del flights[key]

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
            self.bytes -= _size(self._entries.pop(key))
        self._entries[key] = classes
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= _size(self._entries.popitem(last=False)[1])

    def _count(self, outcome: str) -> None:
        self._metrics.class_cache.labels(outcome).inc()


def free(_: int = 0) -> Callable[..., None]:
    """The bill where there is none to pay."""
    return lambda *_: None


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
    return classes.original.nbytes + refined + OVERHEAD_BYTES
