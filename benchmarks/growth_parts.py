"""What `benchmarks.growth` measures beside the index: training, its neighbour search, and encoding a corpus.

Seconds of processor time; torch has one thread.
"""

import io
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encoding import photograph
from benchmarks.synthetic_memory import write_clustered
from benchmarks.training_speed import measure_loop
from memory import IndexOptions
from memory_builder import BuildConfig, build
from models.encoder import Encoder
from models.training.dataset.candidates import find_candidates
from models.training.dataset.exclusion import SearchSettings

TINY_CLIP = Path(__file__).parents[1] / "demo" / "tiny_clip"
EXACT = IndexOptions(factory="exact")
D, SEARCHED, BATCH, STEPS = 512, 1024, 1024, 8
PICTURES, SIZE = 400, (224, 168)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


def measure_training(pairs: int) -> dict[str, Any]:
    """One memory: the neighbours of some of its pairs, searched exactly, and steps of the paper's design over it."""
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        memory = write_clustered(folder / "memory", pairs, D, options=EXACT)
        ids = torch.from_numpy(np.sort(np.random.default_rng(1).permutation(pairs)[:SEARCHED]))
        search_s, _ = timed(lambda: find_candidates(memory, ids, SearchSettings()))
        step_ms = (
            1000 / measure_loop(memory, BATCH, STEPS, amp=False, device="cpu")["processor_time"]["pairs_per_second"]
        )
        memory.close()
    finally:
        shutil.rmtree(folder)
    search_ms = 1000 * search_s / len(ids)
    return {
        "pairs": pairs,
        "neighbours_ms_a_pair": round(search_ms, 3),
        "step_ms_a_pair": round(step_ms, 3),
        "neighbours_of_all_s": round(search_ms * pairs / 1000, 1),
        "epoch_s": round(step_ms * pairs / 1000, 1),
    }


def measure_encoding(pairs: int) -> dict[str, Any]:
    """A build from a tar with the demo's CLIP, index and commit included; pictures repeat, captions do not."""
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        write_tar(folder / "corpus.tar", pairs)
        encoder = Encoder.open(str(TINY_CLIP), device="cpu", dtype="float32")
        config = BuildConfig(
            (str(folder / "corpus.tar"),), folder / "memory", workers=1, near_duplicates=0.0, index=EXACT
        )
        seconds, built = timed(lambda: build(config, encoder))
        assert built.num_items == pairs
        size = sum(path.stat().st_size for path in (folder / "memory").rglob("*") if path.is_file())
    finally:
        shutil.rmtree(folder)
    return {
        "pairs": pairs,
        "build_s": round(seconds, 2),
        "ms_a_pair": round(1000 * seconds / pairs, 3),
        "disk_bytes_a_pair": round(size / pairs, 1),
    }


def write_tar(path: Path, pairs: int) -> None:
    """Pairs in WebDataset form."""
    dice = np.random.default_rng(0)
    pictures = [photograph(dice, *SIZE) for _ in range(PICTURES)]
    with tarfile.open(path, "w") as archive:
        for number in range(pairs):
            caption = f"a photo of bird number {number}"
            for extension, data in (("jpg", pictures[number % PICTURES]), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:07d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
