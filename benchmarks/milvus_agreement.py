"""What a memory in Milvus Lite answers beside the exact search it came from: 100,000 pairs, D = 512.

    python -m benchmarks.milvus_agreement [--pairs 100000] [--index HNSW]

Starts Milvus Lite's gRPC server in a process of its own (extra `milvus-lite`). Its times say nothing about Milvus.
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.measured_on import measured_on
from benchmarks.synthetic_memory import write_clustered
from memory import MemoryUnavailable
from memory.milvus import MilvusMemory, MilvusServer, choose_index, connect, push
from models.fusion import Fusion, FusionConfig

RESULTS = Path(__file__).parent / "results" / "milvus-agreement.json"
D, K, QUERIES = 512, 10, 1000


def start_server(directory: Path) -> tuple[subprocess.Popen[bytes], MilvusServer]:
    """Milvus Lite on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("milvus-lite")
    command = [program, "server", "--data-dir", directory, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = MilvusServer(f"http://127.0.0.1:{port}", timeout_s=60, breaker_failures=1000)
    for _ in range(300):
        try:
            connect(server).read("has_collection", "none")
            return process, server
        except MemoryUnavailable:
            time.sleep(0.2)
    raise SystemExit("Milvus Lite did not start")


class Watch:
    """Where the time of a push goes, told on standard error as it goes."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.inserted_s = 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def inserted(self, done: int, total: int) -> None:
        self.inserted_s = self.seconds()
        self.told(f"{done:,} of {total:,} inserted")

    def told(self, what: str) -> None:
        print(f"{self.seconds():7.1f} s  {what}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=100_000)
    arguments.add_argument("--index", default="HNSW")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = write_clustered(Path(folder) / "memory", given.pairs, D)
        process, server = start_server(Path(folder) / "milvus")
        try:
            watch = Watch()
            done = push(memory, connect(server), "bench", choose_index(given.index, given.pairs), watch.inserted)
            pushed_s = watch.seconds()
            watch.told("indexed, loaded and checked")
            kept = MilvusMemory.open("bench", server, encoder=memory.encoder)
            torch.manual_seed(0)
            fusion = Fusion(FusionConfig(design="copy", embed_dim=D, k=K)).eval()
            measured = {side: compare(memory, kept, fusion, side) for side in ("image", "text")}
            watch.told("compared")
        finally:
            process.kill()
            process.wait()
    here = measured_on()
    result = {
        "pairs": given.pairs,
        "embed_dim": D,
        "index": given.index,
        "push_seconds": {"inserts": round(watch.inserted_s, 1), "all": round(pushed_s, 1)},
        "agreement_told_by_push": round(done.agreement, 4),
        **measured,
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        **here,
        "versions": {**here["versions"], **{name: version(name) for name in ("pymilvus", "milvus-lite")}},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))  # noqa: T201


def compare(memory, kept, fusion, modality):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Recall of the neighbours, and cosines of the refined embeddings where they agree."""
    dice = np.random.default_rng(1)
    queries = memory.rows(modality, dice.choice(memory.num_rows, QUERIES, replace=False))
    queries += dice.standard_normal(queries.shape).astype(np.float32) * np.float32(0.3 / D**0.5)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    times, found = {}, {}
    for name, one in (("directory", memory), ("milvus", kept)):
        started = time.perf_counter()
        found[name] = one.search(queries, K, modality=modality)
        times[name] = (time.perf_counter() - started) / QUERIES
    exact, other = found["directory"], found["milvus"]
    recall = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(exact.ids, other.ids, strict=True)])
    same = np.flatnonzero((exact.ids == other.ids).all(axis=1))
    refined = []
    for one in (exact, other):
        parts = (queries[same], one.values[same], one.similarities[same], one.mask[same], one.keys[same])
        with torch.inference_mode():
            refined.append(fusion.refine(modality, *map(torch.from_numpy, parts)).numpy())
    return {
        "index_recall@10": round(float(recall), 4),
        "queries_with_all_neighbours_equal": len(same),
        "least_cosine_of_refined_there": round(float((refined[0] * refined[1]).sum(axis=1).min()), 6),
        "milliseconds_a_query_batched": {name: round(1000 * seconds, 3) for name, seconds in times.items()},
    }


if __name__ == "__main__":
    main()
