"""What the service spends on an item beside what encoding it costs in one process, without a service.

    python -m benchmarks.serving_limit --photos /path/to/photographs

The limit decodes (or tokenises) in threads while it encodes batches, with the service's own encoder, dtype and
preprocessing, at the best of several batch sizes. The service answers single-item requests from 32 clients on the same
cores. Compared are processor seconds an item: the client's own are not the server's. Then plain embedding one at a time
beside the encoder alone, what refining costs in a memory of 1 M pairs, and fusion alone. All alternate in one run.
Takes about ten minutes; writes benchmarks/results/serving-limit.json.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.serving_bed import Bed, Server, arguments, make_bed, make_fusion, make_memory, reco_server, write_result
from benchmarks.serving_load import closed_loop, post, post_json
from memory import Modality
from models.cores import wait_briefly
from models.encoder import Encoder
from service.pipeline.engine import Engine
from service.settings import Settings

CONCURRENCY = 32
BATCHES = {"image": (8, 16, 32), "text": (16, 32, 64)}
PATHS = {"image": "/embed/image", "text": "/embed/text"}


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    cpu_ms: float  # processor milliseconds an item
    rate: float  # items a second


class Limit:
    """Items through the encoder, as fast as this process can."""

    def __init__(self, encoder: Encoder, bed: Bed) -> None:
        self._encoder = encoder
        self._items: dict[Modality, Sequence[Any]] = {"image": bed.photos, "text": bed.texts}
        self._pool = ThreadPoolExecutor(1)  # a second one gains nothing on two cores

    def prepared(self, modality: Modality, start: int, count: int) -> torch.Tensor:
        """The encoder's input of some items."""
        items = self._items[modality]
        chosen = [items[(start + number) % len(items)] for number in range(count)]
        if modality == "image":
            return torch.stack([self._encoder.preprocess(data) for data in chosen])
        return self._encoder.tokenize(chosen).ids

    def encode(self, modality: Modality, batch: torch.Tensor) -> None:
        """The encoder alone."""
        (self._encoder.encode_image if modality == "image" else self._encoder.encode_text)(batch)

    def run(self, modality: Modality, batch: int, seconds: float) -> Cost:
        """Decode or tokenise batch n + 1 while batch n is encoded."""
        started, cpu, done = time.perf_counter(), time.process_time(), 0
        ahead = self._pool.submit(self.prepared, modality, 0, batch)
        while time.perf_counter() - started < seconds:
            ready = ahead.result()
            done += batch
            ahead = self._pool.submit(self.prepared, modality, done, batch)
            self.encode(modality, ready)
        ahead.result()
        return Cost(1000 * (time.process_time() - cpu) / done, done / (time.perf_counter() - started))

    def alone_ms(self, modality: Modality, repeats: int = 12) -> float:
        """The median of encoding one item."""
        batch = self.prepared(modality, 0, 1)
        spent = []
        for _ in range(repeats):
            started = time.perf_counter()
            self.encode(modality, batch)
            spent.append(time.perf_counter() - started)
        return 1000 * statistics.median(spent)


def requests_of(bed: Bed, modality: Modality, **options: object) -> list[bytes]:
    """One item each: images as the raw body, texts as JSON."""
    if modality == "image":
        query = "&".join(f"{name}={str(value).lower()}" for name, value in options.items())
        return [post(f"/embed/image?{query}", photo, "image/jpeg") for photo in bed.photos]
    return [post_json("/embed/text", {"texts": text, **options}) for text in bed.texts]


def serve(server: Server, requests: Sequence[bytes], concurrency: int, seconds: float) -> tuple[Cost, float]:
    """The cost of a closed loop, and its median latency in milliseconds."""
    cpu = server.cpu_seconds()
    outcome = asyncio.run(closed_loop(server.address, requests, concurrency=concurrency, seconds=seconds))
    assert set(outcome.seconds) == {200}, outcome.counts()
    return Cost(1000 * (server.cpu_seconds() - cpu) / len(outcome.good), outcome.rate), outcome.quantile_ms(0.5)


def against_the_limit(server: Server, limit: Limit, bed: Bed, options: argparse.Namespace) -> dict[str, Any]:
    """CPU and wall ratios of single-item requests, images and texts."""
    found: dict[str, Any] = {}
    for modality, sizes in BATCHES.items():
        requests = requests_of(bed, modality, enhance=False)
        best = min(sizes, key=lambda size: limit.run(modality, size, options.seconds / 2).cpu_ms)
        serve(server, requests, CONCURRENCY, 2)
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs.append(limit.run(modality, best, options.seconds))
            ours.append(serve(server, requests, CONCURRENCY, options.seconds)[0])
        found[modality] = {
            "limit_batch": best,
            "limit_cpu_ms": _median(one.cpu_ms for one in theirs),
            "service_cpu_ms": _median(one.cpu_ms for one in ours),
            "cpu_ratio": _median(a.cpu_ms / b.cpu_ms for a, b in zip(theirs, ours, strict=True)),
            "limit_per_s": _median(one.rate for one in theirs),
            "service_per_s": _median(one.rate for one in ours),
            "wall_ratio": _median(b.rate / a.rate for a, b in zip(theirs, ours, strict=True)),
        }
    return found


def one_at_a_time(server: Server, limit: Limit, bed: Bed, options: argparse.Namespace) -> dict[str, Any]:
    """Median latencies with one client: plain, refined, and the encoder alone."""
    found: dict[str, Any] = {}
    for modality in BATCHES:
        plain, refined = (requests_of(bed, modality, enhance=enhance) for enhance in (False, True))
        rounds = []
        for _ in range(options.rounds):
            alone = limit.alone_ms(modality)
            rounds.append((alone, *(serve(server, sent, 1, options.seconds / 2)[1] for sent in (plain, refined))))
        found[modality] = {
            "encode_alone_ms": _median(one[0] for one in rounds),
            "plain_p50_ms": _median(one[1] for one in rounds),
            "refined_p50_ms": _median(one[2] for one in rounds),
            "plain_minus_alone_ms": _median(one[1] - one[0] for one in rounds),
            "refined_minus_plain_ms": _median(one[2] - one[1] for one in rounds),
        }
    return found


def cost_of_refining(server: Server, bed: Bed, options: argparse.Namespace) -> dict[str, Any]:
    """Throughput with and without the memory, 32 clients."""
    found: dict[str, Any] = {}
    for modality in BATCHES:
        plain, refined = (requests_of(bed, modality, enhance=enhance) for enhance in (False, True))
        rounds = [
            [serve(server, sent, CONCURRENCY, options.seconds)[0] for sent in (plain, refined)]
            for _ in range(options.rounds)
        ]
        found[modality] = {
            "plain_per_s": _median(one.rate for one, _ in rounds),
            "refined_per_s": _median(one.rate for _, one in rounds),
            "throughput_cost": _median(1 - b.rate / a.rate for a, b in rounds),
            "cpu_cost": _median(1 - a.cpu_ms / b.cpu_ms for a, b in rounds),
        }
    return found


def fusion_alone(engine: Engine, repeats: int = 30) -> dict[str, Any]:
    """Milliseconds of search and of fusion for a batch of 32."""
    queries = np.random.default_rng(0).standard_normal((32, engine.encoder.embed_dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = {}
    for modality in BATCHES:
        neighbours = engine.composed.search(queries, modality=modality)
        found[f"{modality}_fuse_ms"] = _median_ms(
            lambda n=neighbours, m=modality: engine.composed.fuse(queries, n, modality=m), repeats
        )
        found[f"{modality}_search_32_ms"] = _median_ms(
            lambda m=modality: engine.composed.search(queries, modality=m), 5
        )
        found[f"{modality}_search_1_ms"] = _median_ms(
            lambda m=modality: engine.composed.search(queries[:1], modality=m), 20
        )
    return found


def _median(values: Any) -> float:
    return round(statistics.median(values), 3)


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(spent), 3)


def start_again_as_a_service() -> None:
    """With the service's way of waiting, which OpenMP reads as it is loaded: the limit's threads are to do as well."""
    if "OMP_WAIT_POLICY" not in os.environ:
        wait_briefly()
        os.execv(sys.executable, sys.orig_argv)


def main() -> None:
    """Run and write the result."""
    start_again_as_a_service()
    parser = arguments(__doc__)
    parser.add_argument("--index", nargs="*", default=[], help="options of `reco build` for the memory's index")
    parser.add_argument("--only", choices=["limit", "latency", "refining", "fusion"], nargs="*")
    options = parser.parse_args()
    bed = make_bed(options)
    memory, fusion = make_memory(bed, options.pairs, tuple(options.index)), make_fusion(bed)
    wanted = options.only or ["limit", "latency", "refining", "fusion"]
    result: dict[str, Any] = {"pairs": options.pairs, "index": options.index, "photos_drawn": bed.drawn}
    settings = Settings(
        model=str(bed.encoder), memory=str(memory), fusion=str(fusion), stamps=str(bed.root / "stamps"), device="cpu"
    )
    engine = Engine.open(settings)
    limit = Limit(engine.encoder, bed)
    result |= {"dtype": engine.encoder.dtype, "preprocess": engine.encoder.preprocess.mode}
    if "fusion" in wanted:
        result["alone"] = fusion_alone(engine)
    with reco_server(bed, memory, fusion=fusion) as server:
        if "limit" in wanted:
            result["against_the_limit"] = against_the_limit(server, limit, bed, options)
        if "latency" in wanted:
            result["one_at_a_time"] = one_at_a_time(server, limit, bed, options)
        if "refining" in wanted:
            result["refining"] = cost_of_refining(server, bed, options)
    write_result("serving-limit", result)


if __name__ == "__main__":
    main()
