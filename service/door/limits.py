"""How fast and how many at once one caller may ask: a token bucket of items and a count of requests under way.

A request pays one item when it comes, and the rest when it is known how many it held: a bucket may go below empty, and
the next request then waits until it is filled again. Without a rate there is no bucket, and whoever is given another
begins with a full one. The table is bounded: the caller longest silent is forgotten.
Standard library and problems only; used on the event loop, so nothing is locked.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from service.problems import Problem

MAX_CALLERS = 10_000


@dataclass(frozen=True)
class Limits:
    """Of one caller; None is none.

    Attributes:
        rate: items a second.
        burst: items a full bucket holds.
        concurrency: requests under way.
    """

    rate: float | None = None
    burst: float = 1.0
    concurrency: int | None = None

    @property
    def bucket(self) -> tuple[float, float] | None:
        """What a bucket is filled by, and up to; None where there is none."""
        return None if self.rate is None else (self.rate, self.burst)


@dataclass
class _Caller:
    """What is known of one.

    Attributes:
        items: in its bucket at the time `at`; less than none is debt.
        bucket: whose items these are; see `Limits.bucket`.
    """

    items: float
    at: float
    bucket: tuple[float, float] | None
    under_way: int = 0

    def pay(self, bucket: tuple[float, float] | None, items: int) -> None:
        """Take items out of the bucket of the limits that a request came under, if that is still the caller's."""
        if bucket is not None and bucket == self.bucket:
            self.items -= items


class Limiter:
    """The callers of one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, max_callers: int = MAX_CALLERS) -> None:
        self._clock = clock
        self._max_callers = max_callers
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    @contextmanager
    def admit(self, name: str, limits: Limits, items: Callable[[], int]) -> Iterator[None]:
        """Let a request of this caller in for the length of the block.

        Args:
            name: of the caller.
            limits: of the caller.
            items: how many items the request turned out to hold, asked at its end.

        Raises:
            Problem: rate_limited or concurrency_limited, with Retry-After.
        """
        caller = self._caller(name, limits, admits=True)
        if limits.rate is not None and caller.items < 1:
            raise self._too_fast(name, limits)
        if limits.concurrency is not None and caller.under_way >= limits.concurrency:
            raise Problem("concurrency_limited", headers={"Retry-After": "1"}, extensions={"limit": limits.concurrency})
        caller.pay(limits.bucket, 1)
        caller.under_way += 1
        try:
            yield
        finally:
            caller.under_way -= 1
            caller.pay(limits.bucket, max(0, items() - 1))

    def charge(self, name: str, limits: Limits, items: int) -> Callable[[int], None]:
        """Have a request that was let in pay for more than what it holds, before that is done.

        As at the door, what others of this caller owe is waited for, and the request's own items may be debt.

        Returns:
            gives so many of the items back: nothing came of them.

        Raises:
            Problem: rate_limited, with Retry-After.
        """
        caller = self._caller(name, limits)
        if limits.rate is not None and caller.items < 0:
            raise self._too_fast(name, limits)
        caller.pay(limits.bucket, items)
        return lambda unused: caller.pay(limits.bucket, -unused)

    def _too_fast(self, name: str, limits: Limits) -> Problem:
        assert limits.rate is not None
        wait = math.ceil((1 - self._caller(name, limits).items) / limits.rate)
        return Problem("rate_limited", headers={"Retry-After": str(wait), **self.headers(name, limits)})

    def headers(self, name: str, limits: Limits, *, owed: int = 0) -> Mapping[str, str]:
        """What a client may know of its bucket (draft-ietf-httpapi-ratelimit-headers).

        Args:
            owed: items of the request that is being answered, which it pays at its end.
        """
        if limits.rate is None:
            return {}
        items = self._caller(name, limits).items - owed
        left = max(0, math.floor(items))
        full_in = math.ceil((limits.burst - items) / limits.rate)
        window = max(1, math.ceil(limits.burst / limits.rate))
        return {
            "RateLimit-Policy": f'"items";q={math.floor(limits.burst)};w={window}',
            "RateLimit": f'"items";r={left};t={full_in}',
        }

    def _caller(self, name: str, limits: Limits, *, admits: bool = False) -> _Caller:
        """A caller with its bucket filled up to now; who is new, or comes under other limits, begins with a full one.

        A request that came under earlier limits, and pays or is answered now, leaves the bucket of later ones alone.
        """
        now = self._clock()
        caller = self._callers.get(name)
        if caller is None:
            if len(self._callers) >= self._max_callers:
                self._forget()
            caller = self._callers[name] = _Caller(limits.burst, now, limits.bucket)
        self._callers.move_to_end(name)
        if caller.bucket != limits.bucket:
            if not admits:
                return caller
            caller.items, caller.bucket = limits.burst, limits.bucket
        elif limits.rate is not None:
            caller.items = min(limits.burst, caller.items + (now - caller.at) * limits.rate)
        caller.at = now
        return caller

    def _forget(self) -> None:
        """Drop the caller longest silent; one with a request under way only if all have one."""
        for name, caller in self._callers.items():
            if not caller.under_way:
                del self._callers[name]
                return
        self._callers.popitem(last=False)
