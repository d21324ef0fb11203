"""More requests than the service can answer, and texts while images saturate it.

    python -m benchmarks.serving_overload --photos /path/to/photographs

Requests leave by the clock at 2, 5 and 10 times the capacity. Client and server share the cores, so goodput is compared
with the capacity beside a process that burns what the overloading client burnt; how much of their time the threads
that compute encode, with a queue that is never empty, says what lies between two batches. Then the latency of a few
texts a second, alone and beside 32 clients that send images as fast as they are answered, with batches bounded by
RECO_MAX_BATCH_MS and not. Takes about eight minutes; writes benchmarks/results/serving-overload.json.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.serving_bed import Bed, Server, arguments, make_bed, make_memory, reco_server, write_result
from benchmarks.serving_limit import CONCURRENCY, requests_of
from benchmarks.serving_load import Outcome, closed_loop, open_loop
from memory import Modality

TIMES: dict[Modality, tuple[int, ...]] = {"image": (2, 5, 10), "text": (2, 5, 10)}
CONCURRENT_BATCHES = min(2, os.cpu_count() or 1)  # the service's default on a CPU
TEXTS_PER_S = 5
BOUNDS = (100, 250, 100_000)  # of a batch, in milliseconds; the last bounds nothing
_BURN = """
import sys, time
share = float(sys.argv[1])
while True:
    end = time.perf_counter() + 0.02 * share
    while time.perf_counter() < end: pass
    time.sleep(0.02 * (1 - share))
"""


def encoding_s(server: Server) -> float:
    """Seconds that the service's batches have been encoded for so far, by its own metrics."""
    url = "http://{}:{}/metrics".format(*server.address)
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own loopback address
        text = answer.read().decode()
    found = re.search(r'^reco_stage_duration_seconds_sum\{stage="encode"\} (\S+)$', text, re.M)
    assert found, "no batch has been encoded yet"
    return float(found[1])


@contextmanager
def burning(share: float) -> Iterator[None]:
    """A process that takes a share of one core."""
    process = subprocess.Popen([sys.executable, "-c", _BURN, str(min(share, 0.98))])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def closed(server: Server, requests: Sequence[bytes], seconds: float) -> tuple[Outcome, float]:
    """A closed loop, and the share of a core that its client took."""
    cpu = time.process_time()
    outcome = asyncio.run(closed_loop(server.address, requests, concurrency=CONCURRENCY, seconds=seconds))
    return outcome, (time.process_time() - cpu) / outcome.elapsed_s


def overload(server: Server, requests: Sequence[bytes], times: int, options: argparse.Namespace) -> dict[str, Any]:
    """One factor: goodput over the capacity beside an equal burner, and how fast refusals are."""
    capacity, own_share = closed(server, requests, options.seconds)
    cpu = time.process_time()
    # Long enough that the queue, which is filled at first, is a small part of it.
    encoding, started = encoding_s(server), time.perf_counter()
    sent = asyncio.run(open_loop(server.address, requests, rate=times * capacity.rate, seconds=2.5 * options.seconds))
    # Up to the last answer; until then the queue is never empty, and a thread that does not encode is between batches.
    encoding = (encoding_s(server) - encoding) / (time.perf_counter() - started) / CONCURRENT_BATCHES
    share = (time.process_time() - cpu) / sent.elapsed_s
    with burning(max(0.0, share - own_share)):
        beside, _ = closed(server, requests, options.seconds)
    return {
        "sent_per_s": round(times * capacity.rate, 1),
        "goodput_per_s": round(sent.rate, 1),
        "capacity_alone_per_s": round(capacity.rate, 1),
        "capacity_beside_burner_per_s": round(beside.rate, 1),
        "goodput_ratio": round(sent.rate / beside.rate, 3),
        "refusal_p50_ms": round(sent.quantile_ms(0.5, 503), 1),
        "refusal_p99_ms": round(sent.quantile_ms(0.99, 503), 1),
        "accepted_p99_ms": round(sent.quantile_ms(0.99), 1),
        "sent_late_p99_ms": round(sent.late_ms(0.99), 1),
        "encoding_share_of_threads": round(encoding, 3),
        "client_share_of_a_core": round(share, 2),
        "statuses": sent.counts(),
    }


async def texts_beside_images(
    server: Server, texts: Sequence[bytes], images: Sequence[bytes], seconds: float
) -> tuple[Outcome, Outcome]:
    """A few texts a second, alone (no images given) or beside a saturating load of images."""
    load = asyncio.create_task(
        closed_loop(server.address, images, concurrency=CONCURRENCY if images else 0, seconds=seconds + 1)
    )
    await asyncio.sleep(1)
    found = await open_loop(server.address, texts, rate=TEXTS_PER_S, seconds=seconds)
    return found, await load


def text_latency(server: Server, bed: Bed, options: argparse.Namespace) -> dict[str, Any]:
    """Of texts alone and beside images; the longest batch of images is told by the service itself."""
    texts, images = requests_of(bed, "text", enhance=False), requests_of(bed, "image", enhance=False)
    asyncio.run(closed_loop(server.address, images, concurrency=CONCURRENCY, seconds=3))  # it learns what an item takes
    seconds = 2 * options.seconds
    alone, _ = asyncio.run(texts_beside_images(server, texts, [], seconds))
    beside, load = asyncio.run(texts_beside_images(server, texts, images, seconds))
    return {
        "text_p50_alone_ms": round(alone.quantile_ms(0.5), 1),
        "text_p99_alone_ms": round(alone.quantile_ms(0.99), 1),
        "text_p50_beside_images_ms": round(beside.quantile_ms(0.5), 1),
        "text_p99_beside_images_ms": round(beside.quantile_ms(0.99), 1),
        "images_per_s": round(load.rate, 1),
        "statuses": beside.counts(),
    }


def main() -> None:
    """Run and write the result."""
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=["overload", "latency"], nargs="*")
    parser.add_argument("--modalities", choices=list(TIMES), nargs="*", default=list(TIMES), help="of the overload")
    options = parser.parse_args()
    wanted = options.only or ["overload", "latency"]
    bed = make_bed(options)
    memory = make_memory(bed, options.pairs)
    if "overload" in wanted:
        with reco_server(bed, memory) as server:
            found: dict[str, Any] = {}
            for modality, factors in TIMES.items():
                if modality not in options.modalities:
                    continue
                requests = requests_of(bed, modality, enhance=False)
                closed(server, requests, 3)
                found[modality] = {f"{times}x": overload(server, requests, times, options) for times in factors}
        write_result("serving-overload", {"overload": found})
    if "latency" in wanted:
        by_bound: dict[str, Any] = {}
        for bound_ms in BOUNDS:
            with reco_server(bed, memory, max_batch_ms=bound_ms) as server:
                by_bound[f"max_batch_ms={bound_ms}"] = text_latency(server, bed, options)
        write_result("serving-overload", {"texts_beside_images": by_bound})


if __name__ == "__main__":
    main()
