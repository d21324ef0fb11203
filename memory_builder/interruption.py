"""SIGTERM and SIGINT as a request to stop at the next safe place, and the watch that hears it there."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from memory.allocator import give_back
from memory_builder.errors import BuildInterrupted
from memory_builder.reporting.progress import Progress

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether a signal asked the build to stop."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def note(self, number: int) -> None:
        """Remember the signal."""
        self._signal = number

    def check(self) -> None:
        """Stop here, if asked to.

        Raises:
            BuildInterrupted: naming the signal.
        """
        if self._signal is not None:
            raise BuildInterrupted(self._signal)


@dataclass(frozen=True)
class Watch:
    """Who looks on while a build runs, and may stop it."""

    progress: Progress
    stop: StopRequest

    def stage(self, name: str) -> None:
        """A stage begins, unless a stop was asked for; names are Progress's."""
        self.stop.check()
        give_back()  # what the stage before needed
        self.progress.stage(name)

    def checkpoint(self, rows: int, rejected: int) -> None:
        """So many more rows were read; the place to stop."""
        if rows or rejected:
            self.progress.advance(rows, rejected)
        self.stop.check()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGTERM or SIGINT into a request; the second one acts at once, as it did before.

    Outside the main thread signals cannot be handled: there they are left to whoever handles them.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        request.note(number)
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        restore()
