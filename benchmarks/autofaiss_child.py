"""The other side of index_autofaiss.py, run by an interpreter that has autofaiss: builds its index, and asks it.

    python autofaiss_child.py DIRECTORY BUDGET     rows/*.npy and queries.npy in; found.npz and told.json out

BUDGET is `max_index_memory_usage`, such as 25.6MB. All else is autofaiss's own choice. It is asked as it tuned itself,
and with 2, 4, 8 … of its lists: an index that was tuned for 10 ms a query is compared at every latency.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from autofaiss import build_index

K, CORES = 10, 2


def main(directory: Path, budget: str) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    index, infos = build_index(
        str(directory / "rows"),
        index_path=str(directory / "knn.index"),
        index_infos_path=str(directory / "infos.json"),
        max_index_memory_usage=budget,
        current_memory_available="8GB",
        metric_type="ip",
        nb_cores=CORES,
    )
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    faiss.omp_set_num_threads(1)  # of single queries; threads only add waiting to them
    queries = np.load(directory / "queries.npy")
    lists = faiss.extract_index_ivf(index)
    found, told = [], []
    for nprobe in (lists.nprobe, *(2**power for power in range(1, 10))):
        lists.nprobe = min(nprobe, lists.nlist)
        ids, p50 = ask(index, queries)
        found.append(ids)
        told.append({"nprobe": lists.nprobe, "single_p50_ms": p50})
    np.savez(directory / "found.npz", *found)
    told = {
        "factory": infos["index_key"],
        "tuned_to": infos["index_param"],
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "bytes_per_row": round((directory / "knn.index").stat().st_size / index.ntotal, 1),
        "settings": told,
    }
    (directory / "told.json").write_text(json.dumps(told))


def ask(index: Any, queries: Any) -> tuple[Any, float]:
    """Ids (Q, K) of queries asked one by one, and the median of their milliseconds."""
    ids, times = [], []
    for query in queries:
        began = time.perf_counter()
        ids.append(index.search(query[None], K)[1][0])
        times.append(1e3 * (time.perf_counter() - began))
    return np.stack(ids), round(statistics.median(times), 3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
