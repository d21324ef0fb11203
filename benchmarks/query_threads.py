"""One query by one thread, and shared by threads: milliseconds and recall of single queries, in turn in one run.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.query_threads DIRECTORY

DIRECTORY is what `index_families --rows 1000000 --families auto --no-real --work DIRECTORY` left: a memory and queries
that it does not hold, with what a scan answers them. Writes benchmarks/results/query-threads.json.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_families import K
from benchmarks.measured_on import measured_on
from memory import MODALITIES, Memory, Modality
from memory.indexing import list_search
from memory.indexing.measuring import Asked

log = logging.getLogger("query_threads")
RESULTS = Path(__file__).parent / "results" / "query-threads.json"
QUERIES = 300
WAYS = {"alone": 1 << 62, "shared": list_search._SHARED_CODES}  # codes that a thread is worth


def ask(opened: Memory, modality: Modality, asked: Asked) -> dict[str, float]:
    """Quantiles of the milliseconds of single queries, one after the other, and recall@10."""
    for query in asked.queries[:20]:
        opened.search(query[None], K, modality=modality)
    times, similarities = [], []
    for query in asked.queries[:QUERIES]:
        began = time.perf_counter()
        found = opened.search(query[None], K, modality=modality)
        times.append(1e3 * (time.perf_counter() - began))
        similarities.append(found.similarities[0])
    near = np.stack(similarities) >= asked.least[:QUERIES, None]
    p95 = sorted(times)[int(0.95 * len(times))]
    recall = float(near.sum(axis=1).clip(max=K).mean() / K)
    return {"p50_ms": round(statistics.median(times), 3), "p95_ms": round(p95, 3), "recall_at_10": round(recall, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    told: dict[str, Any] = {}
    with Memory.open(arguments.work / "memory", stamps=arguments.work / "stamps") as opened:
        for modality in MODALITIES:
            with np.load(arguments.work / f"{modality}-asked.npz") as kept:
                asked = Asked(**kept, count=K)
            rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for _ in range(arguments.rounds):
                for way, codes in WAYS.items():
                    list_search._SHARED_CODES = codes
                    rounds[way].append(ask(opened, modality, asked))
                    log.info("%s %s %s", modality, way, rounds[way][-1])
            told[modality] = rounds
        indices = [{name: index[name] for name in ("modality", "factory", "search")} for index in opened.indices()]
        rows = opened.num_rows
    result = {
        **measured_on(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average": round(os.getloadavg()[0], 1),
        "rows": rows,
        "indices": indices,
        "queries": QUERIES,
        **told,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
