"""Where the time of the lanes goes. Standard library only."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StageTimes:
    """Seconds by stage, summed over lanes; `total` is the lanes' own time, spent or not."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count what is done within as `stage`."""
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + time.monotonic() - began

    def seconds(self) -> Mapping[str, float]:
        """As in Lanes."""
        with self._lock:
            return {**self._seconds, "total": self._lanes * (time.monotonic() - self._began)}
