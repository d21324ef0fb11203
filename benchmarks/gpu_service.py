"""The service on a GPU: items a second, latencies and where the time goes, beside its own encoder in one process.

    python -m benchmarks.gpu_service --photos /path/to/photographs

Single items from 1 and 32 clients, requests of many items, plain and refined, with the memory searched on the GPU and
on the CPU; then texts alone and beside images that never stop. The clients run beside the server on the same cores.
Writes benchmarks/results/gpu-service.json.
"""

import asyncio
import base64
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_bed import (
    Bed,
    Server,
    arguments,
    make_bed,
    make_fusion,
    make_memory,
    reco_server,
    write_result,
)
from benchmarks.serving_limit import requests_of
from benchmarks.serving_load import MEDIA_JSON, Outcome, closed_loop, post

IMAGES, TEXTS = 32, 128  # of a request with many
NPY = "application/x-npy"


def many(bed: Bed, modality: str, *, enhance: bool) -> list[bytes]:
    """Requests of many items, answered in binary."""
    if modality == "image":
        photos = [base64.b64encode(photo).decode() for photo in bed.photos]
        bodies = [{"images": photos[n : n + IMAGES], "enhance": enhance} for n in range(0, len(photos), IMAGES)]
        return [post("/embed/image", json.dumps(body).encode(), MEDIA_JSON, NPY) for body in bodies]
    texts = bed.texts
    bodies = [{"texts": texts[n : n + TEXTS], "enhance": enhance} for n in range(0, len(texts), TEXTS)]
    return [post("/embed/text", json.dumps(body).encode(), MEDIA_JSON, NPY) for body in bodies]


def run(server: Server, requests: Sequence[bytes], concurrency: int, seconds: float, items: int = 1) -> dict[str, Any]:
    """A closed loop, after a short one to warm up."""
    asyncio.run(closed_loop(server.address, requests, concurrency=concurrency, seconds=1.0))
    cpu, before = server.cpu_seconds(), stages(server)
    outcome = asyncio.run(closed_loop(server.address, requests, concurrency=concurrency, seconds=seconds))
    answered = items * len(outcome.good)
    refused = {"refused": outcome.counts()} if set(outcome.seconds) != {200} else {}
    return {
        **refused,
        "items_per_s": round(items * outcome.rate, 1),
        "p50_ms": round(outcome.quantile_ms(0.5), 2),
        "p99_ms": round(outcome.quantile_ms(0.99), 2),
        "cpu_ms_an_item": round(1e3 * (server.cpu_seconds() - cpu) / answered, 3),
        "stage_ms": {
            name: round(1e3 * (s - before[name][0]) / max(1, n - before[name][1]), 2)
            for name, (s, n) in stages(server).items()
            if n > before.get(name, (0, 0))[1]
        },
    }


def stages(server: Server) -> dict[str, tuple[float, float]]:
    """Seconds and counts of each stage so far, as /metrics has them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        for kind in ("sum", "count"):
            if line.startswith(f"reco_stage_duration_seconds_{kind}{{"):
                name = line.split('stage="')[1].split('"')[0]
                found.setdefault(name, {})[kind] = float(line.rpartition(" ")[2])
    return {name: (one.get("sum", 0.0), one.get("count", 0.0)) for name, one in found.items()}


def beside_images(server: Server, bed: Bed, seconds: float) -> dict[str, float]:
    """p99 of texts from four clients, alone and while 32 others send images."""
    texts, images = (requests_of(bed, modality, enhance=False) for modality in ("text", "image"))

    async def both() -> Outcome:
        load = asyncio.create_task(closed_loop(server.address, images, concurrency=32, seconds=seconds + 1))
        await asyncio.sleep(0.5)
        outcome = await closed_loop(server.address, texts, concurrency=4, seconds=seconds)
        await load
        return outcome

    alone = asyncio.run(closed_loop(server.address, texts, concurrency=4, seconds=seconds))
    beside = asyncio.run(both())
    found = {"alone_p99_ms": alone.quantile_ms(0.99), "beside_images_p99_ms": beside.quantile_ms(0.99)}
    return {
        **{name: round(one, 2) for name, one in found.items()},
        "ratio": round(beside.quantile_ms(0.99) / alone.quantile_ms(0.99), 2),
    }


def measure(server: Server, bed: Bed, seconds: float, *, whole: bool) -> dict[str, Any]:
    """All loads on one server; `whole` with those that do not refine."""
    found: dict[str, Any] = {}
    for modality, count in (("image", IMAGES), ("text", TEXTS)):
        for kind, enhance in (("plain", False), ("refined", True)):
            if not (whole or enhance):
                continue
            single = requests_of(bed, modality, enhance=enhance)
            name = f"{modality}_{kind}"
            found[f"{name}_1_client"] = run(server, single, 1, seconds / 2)
            found[f"{name}_32_clients"] = run(server, single, 32, seconds)
            found[f"{name}_many_items"] = run(server, many(bed, modality, enhance=enhance), 8, seconds, count)
    if whole:
        found["texts_beside_images"] = beside_images(server, bed, seconds)
    return found


def main() -> None:
    """Run and write the result."""
    parser = arguments(__doc__)
    parser.add_argument("--memory", type=Path, help="a memory of this encoder, as benchmarks.gpu_search makes it")
    parser.add_argument("--settings", nargs="*", default=[], help="further settings of the server, name=value")
    parser.add_argument("--name", default="gpu-service")
    parser.add_argument("--only-gpu-search", action="store_true")
    options = parser.parse_args()
    bed = make_bed(options)
    memory, fusion = options.memory or make_memory(bed, options.pairs), make_fusion(bed)
    settings = dict(one.split("=", 1) for one in options.settings)
    result: dict[str, Any] = {"pairs": options.pairs, "photos_drawn": bed.drawn, "settings": settings}
    with reco_server(bed, memory, fusion=fusion, **settings) as server:
        result["searched_on_the_gpu"] = measure(server, bed, options.seconds, whole=True)
    write_result(options.name, result)  # a lent machine may be gone before the rest is measured
    if not options.only_gpu_search:
        with reco_server(bed, memory, fusion=fusion, search_device="cpu", **settings) as server:
            result["searched_on_the_cpu"] = measure(server, bed, options.seconds, whole=False)
    write_result(options.name, result)


if __name__ == "__main__":
    main()
