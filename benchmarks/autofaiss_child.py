"""The other side of index_autofaiss.py, run by an interpreter that has autofaiss: builds its index, and asks it.

    python autofaiss_child.py DIRECTORY BUDGET     rows/0.npy, ranked_by.npy, queries.npy in; found.npz, told.json out

BUDGET is `max_index_memory_usage`, such as 25.6MB; all else is autofaiss's own choice. It is asked as it tuned itself
and with 1, 2, 4 … of its lists, for its ten best codes and for more that are then ranked by the fp16 rows.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from autofaiss import build_index

K, CORES = 10, 2
CANDIDATES = (K, 32, 64, 128)  # of ten there is nothing to rank


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
    told = {
        "versions": {"autofaiss": version("autofaiss"), "faiss": faiss.__version__},
        "factory": infos["index_key"],
        "tuned_to": infos["index_param"],
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "bytes_per_row": round((directory / "knn.index").stat().st_size / index.ntotal, 1),
        "settings": ask_all(index, directory),
    }
    (directory / "told.json").write_text(json.dumps(told))


def ask_all(index: Any, directory: Path) -> list[dict[str, Any]]:
    """Every setting, its ids in found.npz in the same order; the first is autofaiss's own."""
    faiss.omp_set_num_threads(1)  # of single queries: threads only add waiting to them
    queries, rows = np.load(directory / "queries.npy"), np.load(directory / "ranked_by.npy", mmap_mode="r")
    lists = faiss.extract_index_ivf(index)
    graph = faiss.downcast_index(lists.quantizer)
    tuned = lists.nprobe
    found, told = [], []
    for nprobe in (tuned, *(2**power for power in range(11) if 2**power <= lists.nlist)):
        lists.nprobe = nprobe
        if told and hasattr(graph, "hnsw"):
            graph.hnsw.efSearch = max(16, 2 * nprobe)  # as autofaiss ties the two
        for count in CANDIDATES:
            ids, p50 = ask(index, rows, queries, count)
            found.append(ids)
            told.append({"nprobe": nprobe, "candidates": count, "single_p50_ms": p50})
    np.savez(directory / "found.npz", *found)
    return told


def ask(index: Any, rows: Any, queries: Any, count: int) -> tuple[Any, float]:
    """Ids (Q, K) of queries asked one by one, and the median of their milliseconds; queries (Q, D) float32."""
    for query in queries[:20]:
        one(index, rows, query, count)
    ids, times = [], []
    for query in queries:
        began = time.perf_counter()
        ids.append(one(index, rows, query, count))
        times.append(1e3 * (time.perf_counter() - began))
    return np.stack(ids), round(statistics.median(times), 3)


def one(index: Any, rows: Any, query: Any, count: int) -> Any:
    """The ids (K,) of one query (D,); -1 where there are fewer."""
    ids = index.search(query[None], count)[1][0]
    if count > K:
        nearness = rows[ids].astype(np.float32) @ query  # row -1 is one too, and told apart by its id
        nearness[ids < 0] = -np.inf
        ids = ids[np.argsort(-nearness)[:K]]
    return ids


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
