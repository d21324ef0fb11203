"""Looking for a newer memory while the service runs. Depends on served_memory, metrics, problems and settings."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from service.observing.metrics import Metrics
from service.problems import Problem
from service.served_memory import newest_version
from service.settings import Settings

logger = logging.getLogger("reco.memory_watch")

_LONGEST_WAIT_S = 3600.0


class RefusedVersion:
    """A version that could not be served, and when to try it again."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._version: int | None = None
        self._wait_s = every_s
        self._next = 0.0

    def may_try(self, version: int, now: float) -> bool:
        """Whether it is another version than was refused, or time to try that one again."""
        return version != self._version or now >= self._next

    def note(self, version: int, now: float) -> None:
        """It was refused: each time, twice the wait, for what is broken may take an hour to be hashed."""
        last = self._wait_s if version == self._version else self._every_s
        self._version, self._wait_s = version, min(2 * last, max(_LONGEST_WAIT_S, self._every_s))
        self._next = now + self._wait_s


async def watch_memory(
    settings: Settings, metrics: Metrics, served: Callable[[], int | None], reload: Callable[[], Awaitable[object]]
) -> None:
    """Reload when the memory has a newer version; one that was refused is tried again, for the cause may pass.

    Nothing that a look runs into ends the watch: a volume that is away for a minute, say.
    """
    assert settings.watch_memory_s is not None
    refused = RefusedVersion(settings.watch_memory_s)
    while True:
        await asyncio.sleep(settings.watch_memory_s)
        try:
            newest = await asyncio.to_thread(newest_version, settings)
            if newest is None or newest == served() or not refused.may_try(newest, time.monotonic()):
                continue
            try:
                await reload()
            except Problem as problem:  # told by the log, the counter and /readyz
                if problem.code != "reload_in_progress":
                    refused.note(newest, time.monotonic())
        except Exception as error:
            metrics.watch_failures.inc()
            logger.warning("the look for a newer memory failed", exc_info=error)
