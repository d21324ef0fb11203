"""How a figure moves with the size of the memory and with the number of neighbours.

The subsets of the memory are nested: a larger one holds the smaller, drawn at random from one fixed seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.array_memory import ArrayMemory, SearchesNeighbours
from evaluation.measuring import headlines
from evaluation.refinement import Scoring
from evaluation.task_sides import task_sides_at
from evaluation.tasks import EvalTask
from memory import SearchableMemory
from models.fusion import Fusion

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
NEIGHBOURS = (1, 2, 3, 5, 7, 10, 15, 20)
MAX_ARRAY_BYTES = 8 << 30  # a memory that is larger in RAM gets no size curve


@dataclass(frozen=True)
class Point:
    """One place of a curve.

    Attributes:
        at: items of the memory, or neighbours.
        values: by section name and scoring, in percent, mean over the seeds.
    """

    at: int
    values: dict[str, dict[Scoring, float]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {"at": self.at, **self.values}


def fits_in_ram(memory: SearchableMemory) -> bool:
    """Whether the size curve of a memory can be drawn: a side in float32, and the other three times when it is read."""
    return memory.num_items * memory.embed_dim * 4 * 4 <= MAX_ARRAY_BYTES


def memory_size_curve(
    task: EvalTask,
    memory: SearchableMemory,
    fusions: Sequence[Fusion],
    k: int,
    *,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """The headline figures with 1/16, 1/8, 1/4, 1/2 and all of the memory; the last with the memory's own search.

    Args:
        task: what is asked.
        memory: see `fits_in_ram`.
        fusions: the seeds; each point is their mean.
        k: neighbours a query; with fewer items than that, all of them.
        seed: of the one random order whose beginnings the subsets are.
        report: told how many points are done.
    """
    whole = ArrayMemory.from_memory(memory)
    order = np.random.default_rng(seed).permutation(whole.num_items)
    points = []
    for number, share in enumerate(SHARES, start=1):
        count = max(1, round(share * whole.num_items))
        part: SearchesNeighbours = memory if share == 1 else whole.subset(order[:count])
        sides = [task_sides_at(task, part, fusion, [k])[0] for fusion in fusions]
        points.append(Point(count, headlines(task, sides)))
        if report is not None:
            report(number, len(SHARES))
    return points


def neighbours_curve(task: EvalTask, memory: SearchesNeighbours, fusions: Sequence[Fusion]) -> list[Point]:
    """The headline figures with 1, 2, 3, 5, … neighbours, up to 20 or to what the fusion and the memory have."""
    most = min(fusions[0].config.most_k or NEIGHBOURS[-1], memory.num_items)
    ks = [k for k in NEIGHBOURS if k < most]
    if most <= NEIGHBOURS[-1]:
        ks.append(most)
    by_seed = [task_sides_at(task, memory, fusion, ks) for fusion in fusions]
    return [Point(k, headlines(task, [seed[position] for seed in by_seed])) for position, k in enumerate(ks)]
