"""How cost grows with the number of pairs: one command, one table, power laws fitted to it.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--pairs 10000 30000 100000]

Seconds are of processor time, so that other programs on the machine do not count; one thread. Rows are synthetic
(D = 512): bytes and times are theirs, recall is not measured here. Writes benchmarks/results/growth.json.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fan_out import simulate
from benchmarks.synthetic_memory import write_clustered
from memory import Memory
from models.training.candidates import find_candidates
from models.training.exclusion import SearchSettings

RESULTS = Path(__file__).parent / "results" / "growth.json"
D, K, SINGLE, BATCH, TRAINED = 512, 10, 30, 256, 1024
MACHINE = "two shared x86 cores (AMD EPYC, avx512_bf16), other programs at work; one thread, processor time"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    torch.set_num_threads(1)
    table = [measure(pairs) for pairs in arguments.parse_args().pairs]
    result = {
        "machine": MACHINE,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("numpy", "faiss-cpu", "torch", "open_clip_torch")},
        "embed_dim": D,
        "growth": table,
        "fits": {name: fit(table, name) for name in FITTED},
        "encode_vit_b32_processor_seconds": encode_rates(),
        "fan_out_simulated": simulate(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    json.dump(result, sys.stdout, indent=1)


FITTED = ("build_s", "open_s", "search_one_ms", "search_batched_ms", "training_search_ms", "disk_bytes_a_pair")


def measure(pairs: int) -> dict[str, Any]:
    """One row of the table."""
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        build_s, memory = timed(lambda: write_clustered(folder / "memory", pairs, D))
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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


if __name__ == "__main__":
    main()
