"""A circuit breaker: what failed several times in a row is not asked again for a while. Standard library only."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Closed while calls succeed; open after `failures` in a row; then one trial call every `open_s` seconds.

    Any thread may ask. A trial that succeeds closes it again, so nothing has to be told that the server is back.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._open_s, self._clock = failures, open_s, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_trial = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused at present, but for a trial."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to make a call now; when open, one caller gets the trial and the others do not."""
        with self._lock:
            if not self.is_open:
                return True
            now = self._clock()
            if now < self._next_trial:
                return False
            self._next_trial = now + self._open_s
            return True

    def succeeded(self) -> None:
        """A call came back."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """A call did not."""
        with self._lock:
            self._failures += 1
            self._next_trial = self._clock() + self._open_s
