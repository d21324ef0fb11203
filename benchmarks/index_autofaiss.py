"""The same rows, the same memory: RECO's indices beside autofaiss's, recall at equal latency, and time to build.

    OMP_NUM_THREADS=2 python -m benchmarks.index_autofaiss DIRECTORY --autofaiss path/to/its/venv/bin/python

DIRECTORY is where `index_families --generate-only` wrote its rows; the first --rows image rows of it are taken. Both
build with two threads and answer single queries with one. RECO ranks what its codes propose by the stored fp16 rows,
which lie on disk beside its index; autofaiss keeps no rows. Recall@10 is judged by a scan. Writes
benchmarks/results/index-autofaiss.json.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import memory
from benchmarks.index_families import GENERATED, K, contents, read_segment, stored, write_rows
from memory import IndexOptions, Memory
from memory.indexing.kernels import kernel_for, processor_flags
from memory.indexing.measuring import Asked, ask
from memory.searching.stored_rows import StoredRows

log = logging.getLogger("index_autofaiss")
RESULTS = Path(__file__).parent / "results" / "index-autofaiss.json"
BUDGETS = {"IVF,RaBitQfs": 128, "IVF,SQ8": 560}  # bytes a row that autofaiss may use
CANDIDATES = (32, 64, 128)


def ours(root: Path, rows: NDArray[np.float16], words: str, asked: Asked) -> dict[str, Any]:
    """Build the image side, and ask it with 1, 2, 4 … lists and some numbers of candidates."""
    segments = [write_rows(root, {"image": rows, "text": rows[:, ::-1]})]
    options = IndexOptions(factory=words)
    began, cpu = time.perf_counter(), time.process_time()
    index = memory.build_index(root, segments, "image", options=options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    text = memory.build_index(root, segments, "text", options=IndexOptions(factory="IVF64,SQ8"))  # a memory has both
    manifest = memory.publish(root, contents(segments, {"image": index, "text": text}, memory.latest_version(root)))
    faiss.omp_set_num_threads(1)
    settings = []
    with Memory.open(root) as opened:
        told = next(told for told in opened.indices() if told["modality"] == "image")
        for nprobe in (2**power for power in range(10)):
            for count in CANDIDATES:
                found, p50 = ask_one_by_one(opened, asked, nprobe, count)
                recall = recall_of(found, asked)
                settings.append({"nprobe": nprobe, "candidates": count, "single_p50_ms": p50, "recall_at_10": recall})
    return {
        "factory": index.factory,
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "bytes_per_row": round(told["bytes"] / manifest.num_rows, 1),
        "chosen": told["search"],
        "settings": settings,
    }


def ask_one_by_one(opened: Memory, asked: Asked, nprobe: int, count: int) -> tuple[NDArray[np.float32], float]:
    """Similarities (Q, K) of what single queries find, and the median of their milliseconds."""
    similarities, times = [], []
    for query in asked.queries:
        began = time.perf_counter()
        found = opened.search(query[None], K, modality="image", nprobe=nprobe, num_candidates=count)
        times.append(1e3 * (time.perf_counter() - began))
        similarities.append(found.similarities[0])
    return np.stack(similarities), round(statistics.median(times), 3)


def theirs(python: str, place: Path, rows: NDArray[np.float16], budget: int, asked: Asked) -> dict[str, Any]:
    """autofaiss on the same rows and queries."""
    (place / "rows").mkdir(parents=True)
    np.save(place / "rows/0.npy", rows.astype(np.float32))
    np.save(place / "queries.npy", asked.queries)
    call = [python, str(Path(__file__).with_name("autofaiss_child.py")), str(place), f"{budget * len(rows) / 1e6}MB"]
    # Its FAISS brings the same OpenBLAS, which would take this processor for an old one (memory/indexing/kernels.py).
    kernel = {} if (name := kernel_for(processor_flags())) is None else {"OPENBLAS_CORETYPE": name}
    done = subprocess.run(call, check=False, capture_output=True, text=True, env=kernel | dict(os.environ))
    if done.returncode:
        raise SystemExit(f"autofaiss failed: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads((place / "told.json").read_text())
    with np.load(place / "found.npz") as found:
        for name, setting in zip(found.files, told["settings"], strict=True):
            keys = rows[np.maximum(found[name], 0)].astype(np.float32)  # (Q, K, D)
            similarities = np.einsum("qkd,qd->qk", keys, asked.queries)
            similarities[found[name] < 0] = -np.inf
            setting["recall_at_10"] = recall_of(similarities, asked)
    return told


def recall_of(similarities: NDArray[np.float32], asked: Asked) -> float:
    """Share of the ten nearest that were found; a hair is allowed for sums in another order."""
    return round(float((similarities >= asked.least[:, None] - 1e-6).sum(axis=1).clip(max=K).mean() / K), 4)


def at_equal_latency(our: dict[str, Any], their: dict[str, Any]) -> list[dict[str, float]]:
    """For each setting of theirs the best recall of ours that takes no longer."""
    table = []
    for setting in their["settings"]:
        quick = [one for one in our["settings"] if one["single_p50_ms"] <= setting["single_p50_ms"]]
        best = max((one["recall_at_10"] for one in quick), default=0.0)
        table.append({"ms": setting["single_p50_ms"], "autofaiss": setting["recall_at_10"], "reco": best})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--autofaiss", required=True, metavar="PYTHON", help="an interpreter that has autofaiss")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--families", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    told = json.loads((arguments.work / GENERATED).read_text())
    segments = [read_segment(value) for value in told["segments"]]
    rows = stored(arguments.work / "memory", segments, "image").take(np.arange(arguments.rows))
    with np.load(arguments.work / "image-asked.npz") as kept:
        asked = ask(StoredRows([rows]), kept["queries"], None)
    place = arguments.work / "autofaiss"
    comparisons = []
    for words in arguments.families:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
        our = ours(place / "memory", rows, words, asked)
        their = theirs(arguments.autofaiss, place / "theirs", rows, BUDGETS[words], asked)
        comparisons.append(
            {
                "budget_bytes_per_row": BUDGETS[words],
                "build_time_of_theirs": round(our["build_s"] / their["build_s"], 3),
                "at_equal_latency": at_equal_latency(our, their),
                "reco": our,
                "autofaiss": their,
            }
        )
        log.info("%s", json.dumps(comparisons[-1], indent=1))
    shutil.rmtree(place)
    result = {
        "machine": "two shared x86 cores (AMD EPYC, avx512_bf16)",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"faiss": faiss.__version__, "autofaiss": "2.18.0"},
        "rows": arguments.rows,
        "comparisons": comparisons,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
