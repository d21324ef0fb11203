"""When the interpreter looks for garbage that reference counts do not free: by the clock, not in the middle of a burst.

A full collection looks at every object alive and holds each request up meanwhile: 0.2 s with a loaded model and a full
queue. Left to itself the interpreter makes one whenever a quarter more has come to live, in overload each second or
two, and finds nothing: requests leave no cycles behind. Standard library only.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = (2_000, 2)  # new objects, and looks at those, between two looks: each takes less than 10 ms in a burst
_NEVER: Final = 1_000_000_000
_EVERY_S: Final = 60.0
_QUIET_ITEMS: Final = 32  # so few are looked at in a moment
_AT_LATEST: Final = 10  # times that a busy service puts it off
_LOOK_S: Final = 1.0


@contextmanager
def by_the_clock() -> Iterator[None]:
    """No full collection within the block but those of `collect`; what was imported is in none of them."""
    before = gc.get_threshold()
    gc.set_threshold(*_YOUNG, _NEVER)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()  # or libraries that count what is left at the end tell of hundreds of leaks


async def collect(is_loaded: Callable[[], bool], items: Callable[[], int], *, every_s: float = _EVERY_S) -> None:
    """Make full collections for as long as the task lives.

    Args:
        is_loaded: whether the model is there: once it is, no collection looks at it.
        items: how many are under way; with many a collection is put off, but not for good.
        every_s: seconds between two of them.
    """
    while not is_loaded():
        await asyncio.sleep(min(_LOOK_S, every_s))
    gc.freeze()
    put_off = 0
    while True:
        await asyncio.sleep(every_s)
        put_off += 1
        if items() <= _QUIET_ITEMS or put_off >= _AT_LATEST:
            gc.collect()
            put_off = 0
