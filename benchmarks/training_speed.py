"""Pairs a second of the training loop, beside what its matrix products alone would take on this machine.

    OMP_NUM_THREADS=2 python -m benchmarks.training_speed

Runs `models.training.train` itself on a memory of random embeddings, read from its mapped files as a large one would
be. After each step the products of that step are timed alone, at the same shapes and in the same number format: their
time is the limit, and the ratio of the limit to the step is what the loop achieves of it. Both are also told in seconds
of processor time: where other programs compete for the cores, compare those, with OMP_NUM_THREADS=1 (threads that wait
for one another spend processor time). Takes about four minutes and 1 GB of disk; writes
benchmarks/results/training-speed.json.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import memory
from benchmarks.measured_on import measured_on
from memory import MODALITIES, Memory
from models.training import SearchSettings, Surroundings, TrainingPairs, train
from models.training.dataset.candidate_store import Candidates
from models.training.dataset.candidates import find_candidates
from models.training.dataset.embedding_rows import MappedRows, open_rows
from models.training.recipes import recipe

log = logging.getLogger("training_speed")

RESULTS = Path(__file__).parent / "results"
D, K, M = 512, 10, 64
WARM_UP = 3
SEARCHED = 4096  # pairs whose neighbours are searched, to extrapolate from
FULL_PAIRS, FULL_EPOCHS = 10_000_000, 10


@dataclass(frozen=True)
class Span:
    """Seconds on the clock and of processor time."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Span":
        """Since some beginning."""
        return cls(time.perf_counter(), time.process_time())

    @classmethod
    def median(cls, spans: Sequence["Span"]) -> "Span":
        """Of each of the two."""
        return cls(statistics.median(one.wall for one in spans), statistics.median(one.cpu for one in spans))

    def __sub__(self, start: "Span") -> "Span":
        return Span(self.wall - start.wall, self.cpu - start.cpu)


def _wait_for(device: torch.device) -> None:
    """A GPU is asked, and answers later."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Products:
    """The matrix products of one step of the faithful design: (count, rows, inner, columns) each."""

    def __init__(self, batch: int, amp: bool, device: str) -> None:
        dtype = torch.bfloat16 if amp else torch.float32
        # A side's forward: four D x D projections and the feed-forward's two; attention's own products, of 11 tokens,
        # count at the rate of the projections. Backward takes twice as many.
        attention = 2 * (D // 64) * (K + 1) / D  # in units of a D x D projection
        self._shapes = [
            (2 * 3 * (4 + attention), (batch, D, D), dtype),
            (2 * 3 * 1, (batch, D, 4 * D), dtype),
            (2 * 3 * 1, (batch, 4 * D, D), dtype),
            # Three losses forward; backward one product by each refined side: two, one and one. Always float32.
            (3, (batch, D, batch), torch.float32),
            (4, (batch, batch, D), torch.float32),
        ]
        self._factors = [
            (torch.randn(n, d, dtype=t, device=device), torch.randn(d, m, dtype=t, device=device))
            for _, (n, d, m), t in self._shapes
        ]

    @property
    def flops(self) -> float:
        """Of a step."""
        return sum(count * 2 * n * d * m for count, (n, d, m), _ in self._shapes)

    def measure(self) -> list["Span"]:
        """How long one product of each shape takes now."""
        found = []
        for one, other in self._factors:
            start = Span.now()
            one @ other
            _wait_for(one.device)
            found.append(Span.now() - start)
        return found

    def limit(self, measured: list[list["Span"]]) -> "Span":
        """The time of all products of a step, at the median of what was measured."""
        medians = [Span.median(spans) for spans in zip(*measured, strict=True)]
        wall = sum(count * one.wall for (count, _, _), one in zip(self._shapes, medians, strict=True))
        return Span(wall, sum(count * one.cpu for (count, _, _), one in zip(self._shapes, medians, strict=True)))


def random_memory(root: Path, rows: int) -> Memory:
    """Unit vectors and captions that mean nothing."""
    dice = np.random.default_rng(0)
    sides = []
    for _ in MODALITIES:
        side = np.empty((rows, D), dtype=np.float16)
        for start in range(0, rows, 16_384):
            block = dice.standard_normal((min(16_384, rows - start), D), dtype=np.float32)
            side[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        sides.append(side)
    image, text = sides
    keys = [f"random/{number}" for number in range(rows)]
    columns = {"key": keys, "caption": keys, "source": keys, "content_sha256": [f"{n:064x}" for n in range(rows)]}
    items = pa.table({**columns, "thumbnail": [None] * rows}, schema=memory.ITEMS_SCHEMA)
    record = memory.write_segment(root, [memory.Rows(image, text, items)], [memory.UnitRecord("random", rows)])
    contents = memory.Contents(
        encoder=memory.undeclared_encoder("random", D),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=(record,),
        indexes={side: memory.build_index(root, [record], side) for side in MODALITIES},
    )
    memory.publish(root, contents)
    return Memory.open(root)


def measure_loop(opened: Memory, batch: int, steps: int, amp: bool, device: str) -> dict[str, Any]:
    """Seconds of the steps of a real run, and of their products."""
    dice = torch.Generator().manual_seed(0)
    count = (WARM_UP + steps) * batch
    candidates = {
        modality: Candidates(
            torch.randint(opened.num_rows, (count, M), generator=dice, dtype=torch.int32),
            torch.rand(count, M, generator=dice).sort(dim=1, descending=True).values,
        )
        for modality in MODALITIES
    }
    on_cpu = device == "cpu"  # where a large memory would be read from its files
    rows = {one: MappedRows(opened, one) if on_cpu else open_rows(opened, one, device) for one in MODALITIES}
    ids = torch.randint(opened.num_rows, (count,), generator=dice)
    pairs = TrainingPairs(ids, dict(rows), candidates, torch.arange(opened.num_rows))
    products, spans, alone = Products(batch, amp, device), list[Span](), list[list[Span]]()
    clock = [Span.now()]

    def progress(done: int, total: int) -> None:
        _wait_for(torch.device(device))
        spans.append(Span.now() - clock[0])
        alone.append(products.measure())
        log.info(
            "step %d of %d: %.2f s, processor %.2f s", done // batch, total // batch, spans[-1].wall, spans[-1].cpu
        )
        clock[0] = Span.now()

    config = recipe("faithful", D, k=K, name="paper", epochs=1, batch_size=batch, amp=amp)
    train(pairs, config, surroundings=Surroundings(device=device, progress=progress))
    step, limit = Span.median(spans[WARM_UP:]), products.limit(alone[WARM_UP:])
    return {
        "gflop_a_step": round(products.flops / 1e9),
        "wall": told(step.wall, limit.wall, batch, products.flops),
        "processor_time": told(step.cpu, limit.cpu, batch, products.flops),
    }


def told(step: float, limit: float, batch: int, flops: float) -> dict[str, Any]:
    """What the seconds of a step and of its products alone mean."""
    return {
        "seconds_a_step": round(step, 3),
        "seconds_of_its_products_alone": round(limit, 3),
        "ratio": round(limit / step, 2),
        "pairs_per_second": round(batch / step),
        "products_gflop_per_second": round(flops / limit / 1e9),
    }


def measure_search(opened: Memory, device: str) -> dict[str, Any]:
    """Seconds to search candidates for some pairs, in both modalities."""
    ids = torch.arange(SEARCHED)
    start = Span.now()
    find_candidates(opened, ids, SearchSettings(), device=device)
    _wait_for(torch.device(device))
    span = Span.now() - start
    flops = 2 * 2 * SEARCHED * opened.num_rows * D
    return {
        "pairs": SEARCHED,
        "rows": opened.num_rows,
        "seconds": round(span.wall, 1),
        "processor_seconds": round(span.cpu, 1),
        "gflop_per_second": round(flops / span.wall / 1e9),
        "gflop_per_processor_second": round(flops / span.cpu / 1e9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096, help="pairs a step")
    parser.add_argument("--steps", type=int, default=30, help="measured, after a few to warm up")
    parser.add_argument("--rows", type=int, default=200_000, help="of the memory")
    parser.add_argument("--amp", action="store_true", help="the fusion in bfloat16")
    parser.add_argument(
        "--device", default="cpu", help="where it is trained; a GPU's figures go to a file of their own"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    load = os.getloadavg()
    with TemporaryDirectory() as folder:
        opened = random_memory(Path(folder) / "memory", options.rows)
        loop = measure_loop(opened, options.batch, options.steps, options.amp, options.device)
        search = measure_search(opened, options.device)
    trained = FULL_PAIRS * FULL_EPOCHS / loop["processor_time"]["pairs_per_second"]
    searched = 4 * D * FULL_PAIRS**2 / (search["gflop_per_processor_second"] * 1e9)
    result = {
        **measured_on(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "design": "faithful",
        "shape": {"embed_dim": D, "k": K, "batch": options.batch, "rows": options.rows, "steps": options.steps},
        "dtype": "bfloat16, loss float32" if options.amp else "float32",
        "loop": loop,
        "search": search,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load_average": [round(one, 1) for one in load],
        "ten_million_pairs_processor_hours": {
            "ten_epochs": round(trained / 3600, 1),
            "search": round(searched / 3600, 1),
        },
    }
    RESULTS.mkdir(exist_ok=True)
    kinds = ["training-speed", *(["gpu"] if options.device != "cpu" else []), *(["bfloat16"] if options.amp else [])]
    (RESULTS / f"{'-'.join(kinds)}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
