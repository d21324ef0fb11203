"""Load on a running service: so many requests at a time for so many seconds, and how each ended.

asyncio and httpx; requests are made before the clock starts, so that the client's own work is small beside the
service's.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

_WARM_UP_S = 0.5


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent."""

    path: str
    content: bytes
    headers: dict[str, str]
    num_items: int


@dataclass
class Measured:
    """What came back at one concurrency.

    Attributes:
        latencies_s: of each good answer.
        refused_s: of each other answer.
        codes: of each other answer; `connection` for none at all.
        requests, items: in good answers; of those that were under way when the clock started, the share of their time
            that it saw. Without them a service whose answers take longer than `seconds` would do nothing.
    """

    concurrency: int
    seconds: float = 0.0
    requests: float = 0.0
    items: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Rates and percentiles, as plain JSON."""
        good, bad = sorted(self.latencies_s), sorted(self.refused_s)
        return {
            "concurrency": self.concurrency,
            "seconds": round(self.seconds, 2),
            "requests": len(good),
            "requests_per_s": round(self.requests / self.seconds, 2),
            "items_per_s": round(self.items / self.seconds, 2),
            **{f"p{percent}_ms": _percentile_ms(good, percent) for percent in (50, 95, 99)},
            "failed": sum(self.codes.values()),
            "failed_p50_ms": _percentile_ms(bad, 50),
            "codes": dict(self.codes.most_common()),
        }


def image_requests(images: Sequence[bytes], batch: int, *, enhance: bool | None) -> list[Request]:
    """Requests of `batch` images each: one as it is, several as a form."""
    requests = []
    words = {} if enhance is None else {"enhance": json.dumps(enhance)}
    for start in range(0, len(images), batch):
        some = [images[(start + step) % len(images)] for step in range(batch)]
        if batch == 1:
            query = f"?{httpx.QueryParams(words)}" if words else ""
            requests.append(Request(f"/embed/image{query}", some[0], {"Content-Type": "image/jpeg"}, 1))
            continue
        form = httpx.Request("POST", "http://any", files=[("files", ("image", one)) for one in some], data=words)
        headers = {"Content-Type": form.headers["content-type"]}
        requests.append(Request("/embed/image", form.read(), headers, batch))
    return requests


def text_requests(texts: Sequence[str], batch: int, *, enhance: bool | None) -> list[Request]:
    """Requests of `batch` texts each."""
    options = {} if enhance is None else {"enhance": enhance}
    headers = {"Content-Type": "application/json"}
    return [
        Request(
            "/embed/text",
            json.dumps({"texts": [texts[(start + step) % len(texts)] for step in range(batch)], **options}).encode(),
            headers,
            batch,
        )
        for start in range(0, len(texts), batch)
    ]


async def measure(
    client: httpx.AsyncClient, requests: Sequence[Request], *, concurrency: int, seconds: float
) -> Measured:
    """Keep `concurrency` requests under way for `seconds`, after a short warm-up that is not counted."""
    measured, turn = Measured(concurrency), itertools.cycle(requests)
    begin = time.perf_counter() + min(_WARM_UP_S, seconds / 4)
    end = begin + seconds

    async def one_after_the_other() -> None:
        while (started := time.perf_counter()) < end:
            request = next(turn)
            code = await _send(client, request)
            ended = time.perf_counter()
            if ended < begin:
                continue
            if code is None:
                measured.latencies_s.append(ended - started)
                share = (ended - max(started, begin)) / (ended - started)
                measured.requests += share
                measured.items += share * request.num_items
            else:
                measured.refused_s.append(ended - started)
                measured.codes[code] += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))
    measured.seconds = time.perf_counter() - begin
    return measured


async def _send(client: httpx.AsyncClient, request: Request) -> str | None:
    """None for a good answer, else its code."""
    try:
        answer = await client.post(request.path, content=request.content, headers=request.headers)
    except httpx.TransportError as error:
        return "timeout" if isinstance(error, httpx.TimeoutException) else "connection"
    if answer.is_success:
        return None
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return f"http_{answer.status_code}"


def _percentile_ms(ordered: Sequence[float], percent: int) -> float | None:
    """The value that `percent` in 100 do not exceed; None of nothing."""
    if not ordered:
        return None
    return round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)
