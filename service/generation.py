"""Which generation of memory and fusion answers a request: the newest when it first asks, and that one to its end.

A generation is a pipeline around one opened version. It is replaced by one reference, and lives as long as a request
holds it: nothing counts, the last reference frees it. Depends on the pipeline only.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from service.pipeline.pipeline import Pipeline


@dataclass
class _Held:
    """What one request holds: nothing until it asks."""

    pipeline: Pipeline | None = None


_HELD: ContextVar[_Held | None] = ContextVar("reco_generation", default=None)


class Generations:
    """The newest generation, and those that requests still hold."""

    def __init__(self) -> None:
        self._newest: Pipeline | None = None
        self._alive: weakref.WeakSet[Pipeline] = weakref.WeakSet()

    @property
    def newest(self) -> Pipeline | None:
        """What the next request gets; None while nothing is loaded."""
        return self._newest

    @property
    def alive(self) -> int:
        """Generations that are held by anybody."""
        return len(self._alive)

    def replace(self, pipeline: Pipeline) -> None:
        """Give every request from now on this one."""
        self._alive.add(pipeline)
        self._newest = pipeline

    def mine(self) -> Pipeline | None:
        """The generation of the request that asks; outside any request, the newest."""
        held = _HELD.get()
        if held is None:
            return self._newest
        if held.pipeline is None:
            held.pipeline = self._newest
        return held.pipeline


@contextmanager
def one_generation() -> Iterator[None]:
    """Whatever asks within the block, tasks and threads started there included, gets one and the same generation."""
    held = _Held()
    token = _HELD.set(held)
    try:
        yield
    finally:
        _HELD.reset(token)
        held.pipeline = None
