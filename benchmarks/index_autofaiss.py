"""The same rows, the same memory budget: RECO's index beside autofaiss's. Recall at equal latency, and time to build.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.index_autofaiss /path/to/clip_vitb32 \
        --work DIRECTORY --rows 100000 --autofaiss path/to/its/venv/bin/python

Rows as index_families.py generates them, in DIRECTORY/<rows>; what is there is taken as it is. Both programs are told
the budget and choose their index themselves; both build with two threads and answer single queries with one. RECO ranks
what its codes propose by the stored fp16 rows, which lie on disk beside its index. autofaiss keeps no rows, so it is
asked in two ways: as it is, and (the control) with its candidates ranked by the same rows. Recall@10 is judged by a
scan. Writes benchmarks/results/index-autofaiss.json, where other numbers of rows keep their figures.
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
from benchmarks.index_families import GENERATED, K, contents, generate, read_segment, stored
from benchmarks.measured_on import measured_on
from memory import IndexOptions, Memory, Modality
from memory.indexing.kernels import kernel_for, processor_flags
from memory.indexing.measuring import Asked

log = logging.getLogger("index_autofaiss")
RESULTS = Path(__file__).parent / "results" / "index-autofaiss.json"
CANDIDATES = (16, 32, 64, 128)


def ours(work: Path, modality: Modality, budget: int, asked: Asked) -> dict[str, Any]:
    """Build one side, and ask it as it chose to be asked, and with 1, 2, 4 … lists and some numbers of candidates."""
    root = work / "memory"
    segments = [read_segment(value) for value in json.loads((work / GENERATED).read_text())["segments"]]
    began, cpu = time.perf_counter(), time.process_time()
    index = memory.build_index(root, segments, modality, options=IndexOptions(max_bytes_per_pair=2 * budget))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    other: Modality = "text" if modality == "image" else "image"
    rest = memory.build_index(root, segments, other, options=IndexOptions(factory="exact"))  # a memory has both sides
    memory.publish(root, contents(segments, {modality: index, other: rest}, memory.latest_version(root)))
    faiss.omp_set_num_threads(1)
    with Memory.open(root) as opened:
        told = next(told for told in opened.indices() if told["modality"] == modality)
        settings = [ask(opened, modality, asked)]
        settings += [ask(opened, modality, asked, 2**power, count) for power in range(10) for count in CANDIDATES]
        rows = opened.num_rows
    return {
        "factory": index.factory,
        "chosen": told["search"],
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "bytes_per_row": round(told["bytes"] / rows, 1),
        "settings": settings,
    }


def ask(
    opened: Memory, modality: Modality, asked: Asked, nprobe: int | None = None, count: int | None = None
) -> dict[str, Any]:
    """Recall and the median milliseconds of queries asked one by one; with None as the index chose."""
    for query in asked.queries[:20]:
        opened.search(query[None], K, modality=modality, nprobe=nprobe, num_candidates=count)
    similarities, times = [], []
    for query in asked.queries:
        began = time.perf_counter()
        found = opened.search(query[None], K, modality=modality, nprobe=nprobe, num_candidates=count)
        times.append(1e3 * (time.perf_counter() - began))
        similarities.append(found.similarities[0])
    recall = recall_of(np.stack(similarities), asked)
    p50 = round(statistics.median(times), 3)
    return {"nprobe": nprobe, "candidates": count, "single_p50_ms": p50, "recall_at_10": recall}


def theirs(python: str, place: Path, rows: NDArray[np.float16], budget: int, asked: Asked) -> dict[str, Any]:
    """autofaiss on the same rows and queries; `place` is a directory for its files, made anew."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "rows").mkdir(parents=True)
    np.save(place / "rows/0.npy", rows.astype(np.float32))
    np.save(place / "ranked_by.npy", rows)
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
    shutil.rmtree(place)
    return told


def recall_of(similarities: NDArray[np.float32], asked: Asked) -> float:
    """Share of the ten nearest that were found; a hair is allowed for sums in another order."""
    return round(float((similarities >= asked.least[:, None] - 1e-6).sum(axis=1).clip(max=K).mean() / K), 4)


def at_equal_latency(our: dict[str, Any], their: dict[str, Any], *, ranked: bool) -> list[dict[str, float]]:
    """For each setting of theirs that no quicker one beats: the best recall of ours that takes no longer."""
    best, table = 0.0, []
    for setting in sorted(their["settings"], key=lambda one: float(one["single_p50_ms"])):
        if (setting["candidates"] > K) == ranked and setting["recall_at_10"] > best:
            ms, best = setting["single_p50_ms"], setting["recall_at_10"]
            quick = [one["recall_at_10"] for one in our["settings"] if one["single_p50_ms"] <= ms]
            table.append({"ms": ms, "autofaiss": best, "reco": max(quick, default=0.0)})
    return table


def compare(arguments: argparse.Namespace, rows: int, modality: Modality) -> dict[str, Any]:
    """Both programs on one side of `rows` pairs."""
    work = arguments.work / str(rows)
    if not (work / GENERATED).exists():
        work.mkdir(parents=True, exist_ok=True)
        generate(argparse.Namespace(data=arguments.data, rows=rows, work=work))
    segments = [read_segment(value) for value in json.loads((work / GENERATED).read_text())["segments"]]
    with np.load(work / f"{modality}-asked.npz") as kept:
        asked = Asked(**kept, count=K)
    embeddings = stored(work / "memory", segments, modality).take(np.arange(rows))
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    our = ours(work, modality, arguments.budget, asked)
    their = theirs(arguments.autofaiss, work / "autofaiss", embeddings, arguments.budget, asked)
    return {
        "rows": rows,
        "modality": modality,
        "budget_bytes_per_row": arguments.budget,
        "load_average": round(os.getloadavg()[0], 1),
        "build_time_of_theirs": round(our["build_s"] / their["build_s"], 3),
        "at_equal_latency": at_equal_latency(our, their, ranked=False),
        "at_equal_latency_both_ranked": at_equal_latency(our, their, ranked=True),
        "reco": our,
        "autofaiss": their,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a directory for some GB, kept for later runs")
    parser.add_argument("--autofaiss", required=True, metavar="PYTHON", help="an interpreter that has autofaiss")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000])
    parser.add_argument("--modality", nargs="+", default=["image"], choices=["image", "text"])
    parser.add_argument("--budget", type=int, default=128, help="bytes a row and side")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    before = json.loads(RESULTS.read_text())["comparisons"] if RESULTS.exists() else []
    table = {(one["rows"], one["modality"], one["budget_bytes_per_row"]): one for one in before}
    for rows in arguments.rows:
        for modality in arguments.modality:
            told = compare(arguments, rows, modality)
            log.info("%s", json.dumps(told, indent=1))
            table[rows, modality, arguments.budget] = told
    result = {
        **measured_on(),
        "comparisons": [table[key] for key in sorted(table)],
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
