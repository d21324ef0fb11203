"""A hundred reloads under load: are answers lost or mixed, and does the memory come back?

    python -m benchmarks.reloads --bed /tmp/reloads

A real server (the demo's tiny CLIP, a memory of random pairs, a fusion with random weights) answers clients that never
pause, while one version after the other is committed and opened by `POST /operator/reload`. Every version holds one
pair whose caption is the version's number and whose text is nearest to what the clients ask: an answer that names one
version and shows the pair of another would be mixed.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.serving_bed import server, write_result
from benchmarks.synthetic_memory import rows_of, write_random
from demo.clip import tiny_clip_directory
from memory import add_rows, list_versions
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from service.door.keys import new_key

ASKED = "a photo of a red bird"
CLIENTS = 4


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    mixed: int = 0


def commit(root: Path, encoder: Encoder, text: Any, version: int) -> None:
    """The next version: its pair in the place of the one before."""
    rows = rows_of(["marker"], [f"version {version}"], text, text)
    done = add_rows(root, rows, encoder=encoder.fingerprint.record(), replace=True)
    assert done.version == version


async def ask(client: httpx.AsyncClient, seen: Seen, until: asyncio.Event) -> None:
    """Ask without a pause."""
    body = {"texts": ASKED, "k": 1, "return_neighbours": True}
    while not until.is_set():
        answer = await client.post("/embed/text", json=body)
        seen.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            told = answer.json()
            caption = told["data"][0]["neighbours"][0]["caption"]
            seen.versions[told["memory_version"]] += 1
            seen.mixed += caption != f"version {told['memory_version']}"


def resident_bytes(pid: int) -> int:
    """RSS of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def measure(url: str, pid: int, key: str, root: Path, encoder: Encoder, reloads: int) -> dict[str, Any]:
    """Load, reload, and look."""
    text = encoder.encode_text(encoder.tokenize([ASKED]).ids)
    seen, until = Seen(), asyncio.Event()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(ask(client, seen, until))
        await asyncio.sleep(3)
        before, seconds, resident = resident_bytes(pid), [], []
        for number in range(reloads):
            await asyncio.to_thread(commit, root, encoder, text, 3 + number)
            started = time.perf_counter()
            answer = await client.post("/operator/reload", headers=headers)
            seconds.append(time.perf_counter() - started)
            assert answer.json()["changed"], answer.text
            resident.append(resident_bytes(pid))
        await asyncio.sleep(2)
        until.set()
        after = resident_bytes(pid)
        gauge = (await client.get("/metrics")).text.split("\nreco_generations ")[1].split("\n")[0]
    return {
        "reloads": reloads,
        "clients": CLIENTS,
        "answers": sum(seen.statuses.values()),
        "failed": sum(count for status, count in seen.statuses.items() if status != 200),
        "mixed": seen.mixed,
        "versions_seen": len(seen.versions),
        "reload_ms": {"median": round(1000 * float(np.median(seconds))), "worst": round(1000 * max(seconds))},
        "rss_before_mib": round(before / 2**20, 1),
        "rss_peak_mib": round(max(resident) / 2**20, 1),
        "rss_after_mib": round(after / 2**20, 1),
        "rss_growth_percent": round(100 * (after / before - 1), 2),
        "generations_alive_after": float(gauge),
    }


def main() -> None:
    """Run it and write benchmarks/results/reloads.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", type=Path, required=True, help="An empty folder to work in.")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--reloads", type=int, default=100)
    options = parser.parse_args()
    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu", dtype="float32")
    root, fusion = options.bed / "memory", options.bed / "fusion"
    write_random(root, encoder, options.pairs)
    commit(root, encoder, encoder.encode_text(encoder.tokenize([ASKED]).ids), 2)
    save_fusion(fusion, Fusion(FusionConfig(design="copy", embed_dim=encoder.embed_dim)), encoder.fingerprint.record())
    key = new_key()
    settings = {
        "RECO_MODEL": str(tiny_clip_directory()),
        "RECO_MEMORY": str(root),
        "RECO_FUSION": str(fusion),
        "RECO_STAMPS": str(options.bed / "stamps"),
        "RECO_API_KEYS": f"admin operator {key}",
        "RECO_PORT": "{port}",
    }
    with server([sys.executable, "-m", "reco.cli", "serve"], "/readyz", settings) as running:
        url, pid = f"http://127.0.0.1:{running.port}", running.process.pid
        result = asyncio.run(measure(url, pid, key, root, encoder, options.reloads))
    assert len(list_versions(root)) == options.reloads + 2
    write_result("reloads", {"encoder": "the demo's tiny CLIP", "pairs": options.pairs, **result})


if __name__ == "__main__":
    main()
