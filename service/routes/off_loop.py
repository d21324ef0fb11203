"""What is large is parsed and rendered in a thread, so that other requests go on meanwhile. Standard library only."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

Result = TypeVar("Result")
LARGE_BODY_BYTES: Final = 64 * 1024
LARGE_ANSWER_NUMBERS: Final = 10_000


async def off_loop(function: Callable[[], Result], *, large: bool) -> Result:
    """The function's result; of a large thing, from a thread."""
    return await asyncio.to_thread(function) if large else function()
