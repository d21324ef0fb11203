"""A load client that costs little: prepared requests over kept connections, read no further than it must.

The benchmarks of serving share it (serving_limit, serving_infinity, serving_overload). Closed loop: so many clients,
each asking again once it is answered. Open loop: requests leave by the clock, whether or not others were answered.
"""

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

MEDIA_JSON = "application/json"


@dataclass
class Outcome:
    """What became of the requests of one run: seconds of each answer by its status, 0 for a connection that broke."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    elapsed_s: float = 0.0
    good_by_then: int | None = None  # of an open loop: what was still queued when it ended is no goodput of its time
    late: list[float] = field(default_factory=list)  # seconds that an open loop sent each request after its time

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def good(self) -> list[float]:
        return self.seconds.get(200, [])

    @property
    def rate(self) -> float:
        """Good answers a second, of those that came within `elapsed_s`."""
        return (len(self.good) if self.good_by_then is None else self.good_by_then) / self.elapsed_s

    def quantile_ms(self, share: float, status: int = 200) -> float:
        """Milliseconds within which that share was answered."""
        found = self.seconds.get(status, [])
        return float(np.quantile(found, share)) * 1000 if found else float("nan")

    def late_ms(self, share: float) -> float:
        """Milliseconds that share of the requests was sent late at most: what the client itself was held up."""
        return float(np.quantile(self.late, share)) * 1000 if self.late else 0.0

    def counts(self) -> dict[int, int]:
        return dict(Counter({status: len(found) for status, found in sorted(self.seconds.items())}))


def post(path: str, body: bytes, media_type: str = MEDIA_JSON, accept: str = "*/*") -> bytes:
    """A whole request, ready to be written."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {media_type}\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def post_json(path: str, value: object) -> bytes:
    """A request with a JSON body."""
    return post(path, json.dumps(value).encode())


class Connection:
    """One kept connection; opened again when the server closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; status 0 for a connection that broke."""
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(*self._address)
            assert self._reader is not None
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            fields = head.lower()
            place = fields.index(b"content-length:") + 15
            body = await self._reader.readexactly(int(fields[place : fields.index(b"\r", place)]))
            if b"connection: close" in fields:
                self.close()
            return int(head[9:12]), body
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return 0, b""

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextmanager
def no_collections() -> Iterator[None]:
    """A collection in the middle of a run would hold the client up, and be told as the server's latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def closed_loop(
    address: tuple[str, int], requests: Sequence[bytes], *, concurrency: int, seconds: float, first: int = 0
) -> Outcome:
    """Keep `concurrency` requests open for `seconds`; requests are taken in turn, from `first` on."""
    outcome = Outcome()
    turn = first

    async def client(started: float) -> None:
        nonlocal turn
        connection = Connection(*address)
        while (begun := time.perf_counter()) - started < seconds:
            turn += 1
            status, _ = await connection.ask(requests[turn % len(requests)])
            outcome.add(status, time.perf_counter() - begun)
        connection.close()

    with no_collections():
        started = time.perf_counter()
        await asyncio.gather(*(client(started) for _ in range(concurrency)))
    outcome.elapsed_s = time.perf_counter() - started
    return outcome


async def open_loop(
    address: tuple[str, int], requests: Sequence[bytes], *, rate: float, seconds: float, most_open: int = 4000
) -> Outcome:
    """Send `rate` requests a second for `seconds`, then wait for those that are open."""
    outcome = Outcome()
    idle: list[Connection] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        connection = idle.pop() if idle else Connection(*address)
        begun = time.perf_counter()
        outcome.late.append(begun - started - number / rate)
        status, _ = await connection.ask(requests[number % len(requests)])
        outcome.add(status, time.perf_counter() - begun)
        idle.append(connection)

    with no_collections():
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            wait = started + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if len(tasks) >= most_open:
                outcome.add(0, 0.0)
                continue
            task = asyncio.create_task(one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        outcome.elapsed_s, outcome.good_by_then = time.perf_counter() - started, len(outcome.good)
        await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return outcome


Load = Callable[[], Outcome]
