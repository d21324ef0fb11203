"""How late the event loop is: what blocks it delays every request and every probe. Depends on metrics."""

import asyncio
import time

from service.observing.metrics import Metrics

_EVERY_S = 1.0


async def measure_lag(metrics: Metrics) -> None:
    """Tell, for as long as the task lives, how late the loop wakes what is due."""
    while True:
        due = time.monotonic() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        metrics.loop_lag.set(max(0.0, time.monotonic() - due))
