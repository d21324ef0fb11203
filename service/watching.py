"""What a service does on its own while it runs: measure its event loop, and look for a newer memory.

Depends on memory, metrics, problems and settings.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from memory import latest_version
from service.observing.metrics import Metrics
from service.problems import Problem
from service.settings import Settings

_LAG_EVERY_S = 1.0


async def measure_lag(metrics: Metrics) -> None:
    """How late the loop wakes what is due: what blocks it delays every request and every probe."""
    while True:
        due = time.monotonic() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        metrics.loop_lag.set(max(0.0, time.monotonic() - due))


async def watch_memory(
    settings: Settings, served: Callable[[], int | None], reload: Callable[[], Awaitable[object]]
) -> None:
    """Reload when the memory has a newer version; one that was refused is not tried again."""
    assert settings.watch_memory_s is not None
    tried: int | None = None
    while True:
        await asyncio.sleep(settings.watch_memory_s)
        newest = await asyncio.to_thread(latest_version, Path(settings.memory))
        if newest is None or newest in (served(), tried):
            continue
        tried = newest
        try:
            await reload()
        except Problem:
            continue  # told by the log, the counter and /readyz
