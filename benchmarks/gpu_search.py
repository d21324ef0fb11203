"""Search and index building on a GPU through faiss-gpu, beside the CPU's on the same memory.

    python -m benchmarks.gpu_search /path/to/clip_vitb32 --work DIRECTORY --rows 10000 100000 1000000

Rows are mixtures around real embeddings (mixtures.py). For each number of rows each index of --families is built with
the GPU's help; then 500 queries that the memory does not hold are asked: on the CPU by the index, on the GPU by all
rows, and on the GPU by lists where it knows them. Recall is against a scan of all rows. Latency is of one query after
the other, and of batches. Writes benchmarks/results/gpu-search.json, where other numbers of rows stay as they are.

With --encoder the memory says that this encoder made it, so that benchmarks.gpu_service can serve it; --generate-only
leaves the timed part to a later run.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_families import GENERATED, build_family, draw, latency_ms, read_segment, stored, write_rows
from benchmarks.mixtures import _AROUND, Mixture, real
from benchmarks.serving_bed import RESULTS, write_result
from memory import MODALITIES, Gpu, Memory, Modality
from memory.indexing.kernels import faiss
from memory.indexing.measuring import Asked, ask
from models.encoder import Encoder

K, QUERIES = 10, 500
BATCHES = (32, 256)
# fitted by benchmarks.mixtures for a million rows: fitting takes minutes
FITTED = {"image": (12, 0.5438786529686386, 0.3), "text": (12, 0.98, 0.25354627641855493)}


def mixture(data: Path, modality: Modality) -> Mixture:
    """The generator of one side, with the numbers that were fitted."""
    centres = real(data, modality)
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    return Mixture(centres, index.search(centres, _AROUND + 1)[1], *FITTED[modality])


def judge(opened: Memory, modality: Modality, asked: Any) -> dict[str, Any]:
    """Recall@10, milliseconds of a query alone, and of batches."""
    found = opened.search(asked.queries, K, modality=modality)
    recall = float(((found.similarities >= asked.least[:, None]) & found.mask).sum(axis=1).clip(max=K).mean() / K)
    told: dict[str, Any] = {"recall_at_10": round(recall, 4)}
    told["alone_ms"] = latency_ms(lambda query: opened.search(query, K, modality=modality), asked.queries)
    for size in BATCHES:
        spent = []
        for start in range(0, 10 * size, size):
            batch = np.take(asked.queries, range(start, start + size), axis=0, mode="wrap")
            began = time.perf_counter()
            opened.search(batch, K, modality=modality)
            spent.append(time.perf_counter() - began)
        told[f"batch_of_{size}_ms"] = round(1e3 * statistics.median(spent), 3)
    return told


def generate(root: Path, data: Path, rows: int) -> None:
    """Write the rows, and queries with what a scan of all rows answers them."""
    mixtures: dict[Modality, Mixture] = {modality: mixture(data, modality) for modality in MODALITIES}
    records = [write_rows(root, {modality: draw(one, rows, 0) for modality, one in mixtures.items()})]
    for modality, one in mixtures.items():
        asked = ask(stored(root, records, modality), one.draw(QUERIES, 2), None)
        np.savez(root / f"{modality}-asked.npz", queries=asked.queries, own=asked.own, least=asked.least)
    (root / GENERATED).write_text(json.dumps([asdict(one) for one in records]))


def measure(root: Path, families: list[str], encoder: dict[str, Any] | None) -> dict[str, Any]:
    """One memory, each family of it, each place to search it."""
    records = [read_segment(value) for value in json.loads((root / GENERATED).read_text())]
    rows = sum(record.rows for record in records)
    asked = {modality: Asked(**np.load(root / f"{modality}-asked.npz"), count=K) for modality in MODALITIES}
    told: dict[str, Any] = {}
    for words in families:
        told[words] = {"built_with_the_gpu": build_family(root, records, words, encoder)}
        places = {"cpu": None, "gpu_rows": Gpu(0, 60 << 30, required=True)}
        if words == "IVF,SQ8":
            places["gpu_lists"] = Gpu(0, int(2 * rows * 600), required=True)
        for name, gpu in places.items():
            began = time.perf_counter()
            with Memory.open(root, stamps=root.parent / "stamps", gpu=gpu) as opened:
                opening = time.perf_counter() - began
                told[words][name] = {"open_s": round(opening, 2)}
                told[words][name] |= {modality: judge(opened, modality, asked[modality]) for modality in MODALITIES}
        sys.stdout.write(f"{rows} {words}: {json.dumps(told[words])}\n")
        sys.stdout.flush()
    return told


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--families", nargs="+", default=["auto", "IVF,SQ8"])
    parser.add_argument("--encoder", help="a model directory")
    parser.add_argument("--generate-only", action="store_true")
    arguments = parser.parse_args()
    encoder = None
    if arguments.encoder and not arguments.generate_only:
        encoder = Encoder.open(arguments.encoder, device="cpu").fingerprint.record()
    path = RESULTS / "gpu-search.json"
    found: dict[str, Any] = json.loads(path.read_text())["rows"] if path.is_file() else {}
    for rows in arguments.rows:
        root = arguments.work / f"memory-{rows}"
        if not (root / GENERATED).is_file():
            generate(root, arguments.data, rows)
        if not arguments.generate_only:
            found[str(rows)] = measure(root, arguments.families, encoder)
            write_result("gpu-search", {"cores": len(os.sched_getaffinity(0)), "rows": found})


if __name__ == "__main__":
    main()
