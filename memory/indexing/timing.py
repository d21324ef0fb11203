"""What a clock says of an index: how long it took, and how long a single query takes. In work/, part of no version."""

import json
import statistics
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memory.format.manifest import IndexRecord, SearchParameters
from memory.format.work_files import INDEX_TIMES, WORK
from memory.indexing.kernels import usable_threads
from memory.indexing.list_search import MEASURED_K, ListSearch
from memory.neighbours import Modality

_QUERIES: Final = 100


def single_query_ms(search: ListSearch, queries: NDArray[np.float32], parameters: SearchParameters) -> dict[str, float]:
    """Median and 95th percentile of queries (Q, D) asked one after the other, in milliseconds."""
    search, times = search.with_parameters(parameters), []
    for query in queries[:_QUERIES]:
        began = time.perf_counter()
        search.search(query[None], MEASURED_K)
        times.append(1e3 * (time.perf_counter() - began))
    times.sort()
    return {"p50_ms": round(statistics.median(times), 3), "p95_ms": round(times[int(0.95 * len(times))], 3)}


def keep_times(root: Path, modality: Modality, index: IndexRecord, times: dict[str, Any]) -> None:
    """Note the times of an index on this host; not durable, never hashed."""
    (root / WORK).mkdir(exist_ok=True)
    told = {"index": index.id, "factory": index.factory, "cores": usable_threads(), **times}
    _path(root, modality).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def read_times(root: Path, modality: Modality, index_id: str) -> dict[str, Any] | None:
    """The times of an index, if it was built here and no other since."""
    try:
        told = json.loads(_path(root, modality).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("index") == index_id else None


def _path(root: Path, modality: Modality) -> Path:
    return root / INDEX_TIMES.format(modality)
