"""Recall, bytes, latency and build time of each index family, on real embeddings and on rows generated around them.

    OMP_NUM_THREADS=2 python -m benchmarks.index_families /path/to/clip_vitb32 --rows 1000000 --work DIRECTORY

Writes a memory of generated pairs (mixtures.py), indexes it with each family, and asks it with generated queries that
it does not hold; neighbours are judged by a scan of all rows. Real rows are asked about themselves, one held out at a
time, as the memory's own report does. Prints every figure and writes benchmarks/results/<--name>.json.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

import memory
from benchmarks.mixtures import fit, match, real
from memory import MODALITIES, IndexOptions, Memory
from memory.indexing.measuring import ask
from memory.stored_rows import StoredRows

log = logging.getLogger("index_families")
RESULTS = Path(__file__).parent / "results"
K, QUERIES, SEGMENT_ROWS = 10, 500, 1_000_000
FAMILIES = ("IVF,SQ8", "IVF,RaBitQ", "IVF,RaBitQfs")


def write_rows(root: Path, sides: dict[str, np.ndarray[Any, Any]]) -> list[memory.SegmentRecord]:
    """Segments of pairs whose items say no more than their number."""
    rows, records = len(sides["image"]), []
    for start in range(0, rows, SEGMENT_ROWS):
        stop = min(rows, start + SEGMENT_ROWS)
        names = pa.array(np.char.mod("%d", np.arange(start, stop)))
        items = pa.table([names, names, names, names, pa.nulls(stop - start, pa.binary())], schema=memory.ITEMS_SCHEMA)
        part = memory.Rows(sides["image"][start:stop], sides["text"][start:stop], items)
        records.append(memory.write_segment(root, [part], [memory.UnitRecord(f"u{start}", stop - start)]))
    return records


def contents(records: list[memory.SegmentRecord], indexes: Any, parent: int | None) -> memory.Contents:
    """A version of an encoder known by a word."""
    return memory.Contents(
        encoder=memory.undeclared_encoder("generated", 512),
        encoded_with={"device": "cpu", "dtype": "float16"},
        segments=tuple(records),
        indexes=indexes,
        parent=parent,
    )


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    value = function()
    return time.perf_counter() - began, value


def latency_ms(search: Callable[[np.ndarray[Any, Any]], object], queries: np.ndarray[Any, Any]) -> dict[str, float]:
    """Of single queries, one after the other."""
    for query in queries[:20]:
        search(query[None])
    times = sorted(1e3 * timed(lambda query=query: search(query[None]))[0] for query in queries[:300])
    return {"p50": round(statistics.median(times), 3), "p95": round(times[int(0.95 * len(times))], 3)}


def judge(opened: Memory, modality: Any, asked: Any) -> dict[str, Any]:
    """Recall@10 against the scan, latency of single queries, and queries a second in batches of 256."""
    found = opened.search(asked.queries, K, modality=modality)
    recall = float(((found.similarities >= asked.least[:, None]) & found.mask).sum(axis=1).clip(max=K).mean() / K)
    seconds, _ = timed(lambda: opened.search(np.resize(asked.queries, (256, 512)), K, modality=modality))
    return {
        "recall_at_10": round(recall, 4),
        "single_ms": latency_ms(lambda query: opened.search(query, K, modality=modality), asked.queries),
        "queries_per_second_in_batches_of_256": round(256 / seconds),
    }


def opening(root: Path, stamps: Path, query: np.ndarray[Any, Any]) -> dict[str, float]:
    """First open, which hashes every file, beside SHA-256 alone; then an open of a verified memory and a query."""
    files = [root / file.path for file in memory.read_manifest(root).files]
    hashing = sum(timed(lambda path=path: _sha256(path))[0] for path in files)
    first, opened = timed(lambda: Memory.open(root, stamps=stamps))
    opened.close()

    def again() -> None:
        with Memory.open(root, stamps=stamps) as memory_:
            memory_.search(query, K, modality="image")

    second, _ = timed(again)
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    return {
        "gigabytes": round(gigabytes, 2),
        "sha256_of_one_thread_s": round(hashing, 2),
        "first_open_s": round(first, 2),
        "verified_open_and_query_s": round(second, 3),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_family(
    root: Path, records: list[memory.SegmentRecord], words: str, asked: dict[str, Any], stamps: Path
) -> dict[str, Any]:
    """Index, commit, open and ask."""
    options = IndexOptions(factory=words) if words != "auto" else None
    cpu = time.process_time()
    seconds, indexes = timed(lambda: memory.build_indexes(root, records, options=options))
    cpu = time.process_time() - cpu
    manifest = memory.publish(root, contents(records, indexes, memory.latest_version(root)))
    told: dict[str, Any] = {"asked_for": words, "index_seconds_both_modalities": round(seconds, 1)}
    told |= {"of_processor_time": round(cpu, 1), "load_average": round(os.getloadavg()[0], 1)}
    told["opening"] = opening(root, stamps, asked["image"].queries[:1])
    with Memory.open(root, stamps=stamps) as opened:
        for index in opened.indices():
            modality = index["modality"]
            told[modality] = {
                "factory": index["factory"],
                "search": index["search"],
                "index_bytes_per_row": round(index["bytes"] / manifest.num_rows, 1),
                "with_fp16_rows": round(index["bytes"] / manifest.num_rows + 1024, 1),
                "measured_by_the_build": index["recall"],
                **judge(opened, modality, asked[modality]),
            }
    log.info("%s %s", words, json.dumps(told, indent=1))
    return told


def generate(arguments: argparse.Namespace) -> None:
    """Write both sides and the queries at the size asked for, and how well they match."""
    matches = {}
    for modality in MODALITIES:
        mixture, wanted = fit(real(arguments.data, modality), arguments.rows)
        rows = mixture.draw(arguments.rows, 1)
        matches[modality] = match(mixture, rows, wanted)
        np.save(arguments.work / f"{modality}.npy", rows.astype(np.float16))
        np.save(arguments.work / f"{modality}-queries.npy", mixture.draw(QUERIES, 2))
        log.info("%s matches %s", modality, matches[modality])
        del rows
    (arguments.work / "matches.json").write_text(json.dumps(matches))


def generated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Index the generated rows with each family, and ask."""
    if not (arguments.work / "matches.json").exists():
        generate(arguments)
    sides = {m: np.load(arguments.work / f"{m}.npy", mmap_mode="r") for m in MODALITIES}
    root = arguments.work / "memory"
    records = write_rows(root, sides)
    asked = {m: ask(StoredRows([sides[m]]), np.load(arguments.work / f"{m}-queries.npy"), None) for m in MODALITIES}
    families = [run_family(root, records, words, asked, arguments.work / "stamps") for words in arguments.families]
    matches = json.loads((arguments.work / "matches.json").read_text())
    shutil.rmtree(root)
    return {"rows": arguments.rows, "neighbour_similarities": matches, "families": families}


def real_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each family forced on the real embeddings; recall as the build measures it, every query held out."""
    told = []
    for modality in MODALITIES:
        rows = real(arguments.data, modality).astype(np.float16)
        root = arguments.work / f"real-{modality}"
        records = write_rows(root, {"image": rows, "text": rows})
        for words in FAMILIES:
            index = memory.build_index(root, records, modality, options=IndexOptions(factory=words))
            report = json.loads((root / f"indexes/{index.id}/report.json").read_text())
            measured = {name: value for name, value in report["measured"].items() if name not in ("settings", "cross")}
            told.append({"rows": len(rows), "modality": modality, "factory": index.factory, **measured})
            log.info("%s", told[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, required=True, help="a directory for some GB, kept for later runs")
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--name", default="index-families")
    parser.add_argument("--no-real", action="store_true")
    parser.add_argument("--generate-only", action="store_true", help="write the rows, for later runs to time")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.generate_only:
        generate(arguments)
        return
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": "two shared x86 cores (AMD EPYC, avx512_bf16), other programs at work",
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "faiss": faiss.__version__,
        "load_average": os.getloadavg()[0],
        "real": [] if arguments.no_real else real_rows(arguments),
        "generated": generated(arguments),
    }
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
