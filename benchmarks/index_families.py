"""Recall, bytes, latency and build time of each index family, on real embeddings and on rows generated around them.

    OMP_NUM_THREADS=2 python -m benchmarks.index_families /path/to/clip_vitb32 --rows 1000000 --work DIRECTORY

Writes a memory of generated pairs (mixtures.py), indexes it with each family, and asks it with generated queries that
it does not hold; neighbours are judged by a scan of all rows. Real rows are asked about themselves, one held out at a
time, as the memory's own report does. Prints every figure and writes benchmarks/results/<--name>.json.

Stages can be run apart, so that only what is timed needs the machine for itself: --generate-only, then --no-real with
one of --families at a time; what is not run again keeps its figures.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import memory
from benchmarks.measured_on import measured_on
from benchmarks.mixtures import Mixture, fit, match, real
from memory import MODALITIES, IndexOptions, Memory
from memory.format.manifest import FileRecord
from memory.indexing.measuring import Asked, ask
from memory.searching.stored_rows import StoredRows

log = logging.getLogger("index_families")
RESULTS = Path(__file__).parent / "results"
K, QUERIES, SEGMENT_ROWS, BLOCK_ROWS = 10, 500, 1_000_000, 100_000
GENERATED = "generated.json"
FAMILIES = ("IVF,SQ8", "IVF,RaBitQ", "IVF,RaBitQfs")


def write_rows(root: Path, sides: dict[str, np.ndarray[Any, Any]], start: int = 0) -> memory.SegmentRecord:
    """A segment of pairs whose items say no more than their number."""
    rows = len(sides["image"])
    names = pa.array(np.char.mod("%d", np.arange(start, start + rows)))
    items = pa.table([names, names, names, names, pa.nulls(rows, pa.binary())], schema=memory.ITEMS_SCHEMA)
    part = memory.Rows(sides["image"], sides["text"], items)
    return memory.write_segment(root, [part], [memory.UnitRecord(f"u{start}", rows)])


def contents(
    records: list[memory.SegmentRecord], indexes: Any, parent: int | None, encoder: dict[str, Any] | None = None
) -> memory.Contents:
    """A version of an encoder known by a word, or by its record."""
    return memory.Contents(
        encoder=encoder or memory.undeclared_encoder("generated", 512),
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
    shutil.rmtree(stamps, ignore_errors=True)
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


def build_family(
    root: Path, records: list[memory.SegmentRecord], words: str, encoder: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Index both sides and commit; what that took."""
    options = IndexOptions(factory=words) if words != "auto" else None
    cpu = time.process_time()
    seconds, indexes = timed(lambda: memory.build_indexes(root, records, options=options))
    cpu = time.process_time() - cpu
    memory.publish(root, contents(records, indexes, memory.latest_version(root), encoder))
    return {
        "index_seconds_both_modalities": round(seconds, 1),
        "of_processor_time": round(cpu, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def ask_family(root: Path, asked: dict[str, Any], stamps: Path) -> dict[str, Any]:
    """Open what was committed last, and ask it."""
    told: dict[str, Any] = {"opening": opening(root, stamps, asked["image"].queries[:1])}
    with Memory.open(root, stamps=stamps) as opened:
        rows = opened.manifest.num_rows
        for index in opened.indices():
            modality = index["modality"]
            told[modality] = {
                "factory": index["factory"],
                "search": index["search"],
                "index_bytes_per_row": round(index["bytes"] / rows, 1),
                "with_fp16_rows": round(index["bytes"] / rows + 1024, 1),
                "measured_by_the_build": index["recall"],
                **judge(opened, modality, asked[modality]),
            }
    return told


def generate(arguments: argparse.Namespace) -> None:
    """Write rows, a segment at a time, and queries with what a scan of all rows answers them."""
    work, root = arguments.work, arguments.work / "memory"
    mixtures = {modality: fit(real(arguments.data, modality), arguments.rows) for modality in MODALITIES}
    segments = []
    for start in range(0, arguments.rows, SEGMENT_ROWS):
        count = min(SEGMENT_ROWS, arguments.rows - start)
        sides = {modality: draw(mixture, count, start) for modality, (mixture, _) in mixtures.items()}
        segments.append(write_rows(root, sides, start))
        log.info("wrote %d rows", start + count)
    matches = {}
    for modality, (mixture, wanted) in mixtures.items():
        rows = stored(root, segments, modality)
        matches[modality] = match(mixture, (block for _, block in rows.blocks()), wanted)
        asked = ask(rows, mixture.draw(QUERIES, 2), None)
        np.savez(work / f"{modality}-asked.npz", queries=asked.queries, own=asked.own, least=asked.least)
        log.info("%s matches %s", modality, matches[modality])
    told = {"rows": arguments.rows, "neighbour_similarities": matches, "segments": [asdict(one) for one in segments]}
    (work / GENERATED).write_text(json.dumps(told, indent=1))


def draw(mixture: Mixture, rows: int, seed: int) -> np.ndarray[Any, Any]:
    """(rows, D) float16, a block at a time."""
    drawn = np.empty((rows, mixture.centres.shape[1]), dtype=np.float16)
    for at in range(0, rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, rows - at)
        drawn[at : at + count] = mixture.draw(count, 10 + seed + at)
    return drawn


def stored(root: Path, segments: list[memory.SegmentRecord], modality: str) -> StoredRows:
    """The rows of one side, mapped."""
    return StoredRows([np.load(root / f"segments/{one.id}/{modality}.f16.npy", mmap_mode="r") for one in segments])


def read_segment(value: dict[str, Any]) -> memory.SegmentRecord:
    """A segment as `generate` noted it."""
    units = tuple(memory.UnitRecord(**unit) for unit in value["units"])
    return memory.SegmentRecord(value["id"], value["rows"], units, tuple(FileRecord(**file) for file in value["files"]))


def generated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Index the generated rows with each family, and ask."""
    work = arguments.work
    if not (work / GENERATED).exists():
        generate(arguments)
    told = json.loads((work / GENERATED).read_text())
    segments = [read_segment(value) for value in told.pop("segments")]
    asked = {m: Asked(**np.load(work / f"{m}-asked.npz"), count=K) for m in MODALITIES}
    families = []
    for words in arguments.families:
        took = {} if arguments.as_built else build_family(work / "memory", segments, words)
        if not arguments.build_only:
            families.append({"asked_for": words, **took, **ask_family(work / "memory", asked, work / "stamps")})
            log.info("%s", json.dumps(families[-1], indent=1))
    return {**told, "families": families}


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A run, with what earlier runs found that it did not do again: real rows, families on as many generated rows."""
    now["real"] = now["real"] or before.get("real", [])
    earlier = before.get("generated", {})
    if earlier.get("rows") == now["generated"]["rows"]:
        done = {family["asked_for"] for family in now["generated"]["families"]}
        kept = [family for family in earlier["families"] if family["asked_for"] not in done]
        now["generated"]["families"] = kept + now["generated"]["families"]
    return now


def real_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each family forced on the real embeddings; recall as the build measures it, every query held out."""
    told = []
    for modality in MODALITIES:
        rows = real(arguments.data, modality).astype(np.float16)
        root = arguments.work / f"real-{modality}"
        records = [write_rows(root, {"image": rows, "text": rows})]
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
    parser.add_argument("--build-only", action="store_true", help="index, and ask later with --as-built")
    parser.add_argument("--as-built", action="store_true", help="ask the memory as the last run left it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.generate_only:
        generate(arguments)
        return
    result = {
        **measured_on(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average": os.getloadavg()[0],
        "real": [] if arguments.no_real else real_rows(arguments),
        "generated": generated(arguments),
    }
    if arguments.build_only:
        return
    path = RESULTS / f"{arguments.name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(joined(before, result), indent=2) + "\n")


if __name__ == "__main__":
    main()
