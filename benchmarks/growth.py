"""How cost grows with the number of pairs: one command, one table, power laws fitted to it.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--only index training encoding rates] [--most 1000000]

The exact index from 10,000 to 100,000 pairs (beyond, and other indices: benchmarks.index_growth), training and its
neighbour search from 10,000 to 1,000,000, encoding with the demo's CLIP from 1,000 to 100,000, and ViT-B/32's rate.
Seconds are of processor time, so that other programs on the machine do not count; one thread. Rows are synthetic
(D = 512): bytes and times are theirs, recall is not measured here. Takes half an hour and 6 GB of disk; writes
benchmarks/results/growth.json, of which --only leaves the rest.
"""

import argparse
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fan_out import simulate
from benchmarks.growth_parts import EXACT, measure_encoding, measure_training, timed
from benchmarks.measured_on import measured_on
from benchmarks.synthetic_memory import write_clustered
from memory import Memory
from models.training.dataset.candidates import find_candidates
from models.training.dataset.exclusion import SearchSettings

RESULTS = Path(__file__).parent / "results" / "growth.json"
D, K, SINGLE, BATCH, TRAINED = 512, 10, 30, 256, 1024


SIZES = {
    "index": (10_000, 30_000, 100_000),
    "training": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "encoding": (1_000, 3_000, 10_000, 30_000, 100_000),
}
FITTED = {
    "index": ("build_s", "open_s", "search_one_ms", "search_batched_ms", "training_search_ms", "disk_bytes_a_pair"),
    "training": ("neighbours_ms_a_pair", "step_ms_a_pair", "neighbours_of_all_s", "epoch_s"),
    "encoding": ("build_s", "ms_a_pair", "disk_bytes_a_pair"),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=[*SIZES, "rates"], default=[*SIZES, "rates"])
    arguments.add_argument("--most", type=int, default=1_000_000, help="pairs of the largest memory")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    here = measured_on()
    result |= {
        "machine": f"{here['machine']}; one thread, processor time",
        "embed_dim": D,
        "versions": here["versions"],
    }
    for part in given.only:
        result[part] = measured_part(part, given.most)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    json.dump(result, sys.stdout, indent=1)


def measured_part(part: str, most: int) -> dict[str, Any]:
    """A table with its fits, or the rates that do not grow."""
    today = datetime.now(UTC).date().isoformat()
    if part == "rates":
        return {"date": today, "encode_vit_b32_processor_seconds": encode_rates(), "fan_out_simulated": simulate()}
    one = {"index": measure, "training": measure_training, "encoding": measure_encoding}[part]
    table = []
    for pairs in SIZES[part]:
        if pairs <= most:
            table.append(one(pairs))
            print(part, table[-1], file=sys.stderr, flush=True)  # noqa: T201
    return {"date": today, "table": table, "fits": {name: fit(table, name) for name in FITTED[part]}}


def measure(pairs: int) -> dict[str, Any]:
    """One row of the table."""
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        build_s, memory = timed(lambda: write_clustered(folder / "memory", pairs, D, options=EXACT))
        kind = memory.indices()[0]["kind"]
        memory.close()
        open_s, memory = timed(lambda: Memory.open(folder / "memory", stamps=folder / "stamps"))
        again_s, memory = timed(lambda: Memory.open(folder / "memory", stamps=folder / "stamps"))
        queries = memory.rows("image", np.random.default_rng(1).choice(pairs, BATCH, replace=False))
        memory.search(queries[:1], K, modality="image")  # pages in
        one_s, _ = timed(lambda: [memory.search(query[None], K, modality="image") for query in queries[:SINGLE]])
        many_s, _ = timed(lambda: memory.search(queries, K, modality="image"))
        ids = torch.arange(min(TRAINED, pairs))
        train_s, _ = timed(lambda: find_candidates(memory, ids, SearchSettings()))
        size = sum(path.stat().st_size for path in (folder / "memory").rglob("*") if path.is_file())
    finally:
        shutil.rmtree(folder)
    return {
        "pairs": pairs,
        "index": kind,
        "build_s": round(build_s, 3),
        "open_s": round(open_s, 4),
        "open_again_s": round(again_s, 4),
        "search_one_ms": round(1000 * one_s / SINGLE, 3),
        "search_batched_ms": round(1000 * many_s / BATCH, 3),
        "training_search_ms": round(1000 * train_s / len(ids), 3),
        "disk_bytes_a_pair": round(size / pairs, 1),
    }


def fit(table: list[dict[str, Any]], name: str) -> dict[str, float]:
    """a · N^b through the rows, by least squares of the logarithms; and the largest ratio of a row to the curve."""
    sizes, values = (np.log([max(row[key], 1e-9) for row in table]) for key in ("pairs", name))
    if len(table) < 2:
        return {}
    exponent, constant = np.polyfit(sizes, values, 1)
    worst = np.exp(np.abs(values - (constant + exponent * sizes)).max())
    return {
        "a": float(f"{np.exp(constant):.4g}"),
        "b": round(float(exponent), 3),
        "worst_ratio": round(float(worst), 2),
    }


def encode_rates() -> dict[str, float]:
    """Processor seconds of a ViT-B/32 with random weights, per image and per text, in batches of 16."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    images, texts = torch.randn(16, 3, 224, 224), torch.randint(1, 49_000, (16, 77))
    with torch.inference_mode():
        model.encode_image(images)  # warm
        image_s, _ = timed(lambda: [model.encode_image(images) for _ in range(3)])
        text_s, _ = timed(lambda: [model.encode_text(texts) for _ in range(3)])
    return {"image": round(image_s / 48, 4), "text": round(text_s / 48, 4)}


if __name__ == "__main__":
    main()
