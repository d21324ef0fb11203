"""When to try again, and after how long. Pure; depends on errors only."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from reco_client.errors import ConnectionFailed, Overloaded, RecoError

OnRetry = Callable[[RecoError, int, float], None]


@dataclass(frozen=True)
class Retries:
    """Waits double from `first_s` to `longest_s`, each between half and whole, so that clients do not come in step.

    Attributes:
        attempts: in all, the first included; 1 tries once.
        first_s, longest_s: the shortest and the longest wait of our own choice.
        patience_s: the longest wait that a service may ask for with Retry-After; asked for more, we give up.
    """

    attempts: int = 6
    first_s: float = 0.25
    longest_s: float = 8.0
    patience_s: float = 60.0

    @property
    def in_all_s(self) -> float:
        """The longest that all waits of our own choice take together."""
        return sum(self._whole_s(attempt) for attempt in range(1, self.attempts))

    def wait_s(self, attempt: int, failure: RecoError, *, repeatable: bool = True) -> float | None:
        """Seconds until the next attempt; None: there is none.

        Args:
            attempt: how many have failed.
            repeatable: whether a request that may have arrived can be sent again.
        """
        if attempt >= self.attempts:
            return None
        if not isinstance(failure, ConnectionFailed | Overloaded):
            return None
        if isinstance(failure, ConnectionFailed) and not repeatable:
            return None
        asked_s = failure.retry_after_s
        if asked_s is None:
            return self._own_wait_s(attempt)
        if asked_s > self.patience_s:
            return None
        # Never before it was asked for; jitter only adds.
        return max(asked_s + random.uniform(0, 0.25 * max(asked_s, self.first_s)), self._own_wait_s(attempt))

    def _own_wait_s(self, attempt: int) -> float:
        whole = self._whole_s(attempt)
        return random.uniform(whole / 2, whole)

    def _whole_s(self, attempt: int) -> float:
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))


class Deadline:
    """The time by which a request is answered or given up, from now on."""

    def __init__(self, within_s: float | None) -> None:
        self._end = None if within_s is None else time.monotonic() + within_s

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None without an end."""
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def shorten(self, seconds: float) -> float:
        """As long, or what is left if that is less."""
        return seconds if self._end is None else max(0.001, min(seconds, self._end - time.monotonic()))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.is_over_after(0)

    def is_over_after(self, wait_s: float) -> bool:
        """Whether nothing is left after such a wait."""
        return self._end is not None and time.monotonic() + wait_s >= self._end


class Answered:
    """How many answers a stream had: while there are more, no request of it that finds the service full is given up.

    A stream has several requests under way, more perhaps than a slow service answers in time, and they are what fills
    it: each that is answered makes room for another.
    """

    def __init__(self) -> None:
        self._count, self._lock = 0, threading.Lock()

    @property
    def count(self) -> int:
        """Answers, to any of its requests."""
        return self._count

    def add(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1
