"""What the memory is worth in the field guide: accuracy before and after, beside the controls, over several seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from demo.quiz import quiz_task
from demo.species import Group, species_of
from evaluation import ZeroShotTask, accuracy, mlp_fusion, refined_task, tuned_mean_fusion
from memory import Memory
from models.encoder import Encoder
from models.fusion import Fusion
from models.training import EpochReport, TrainConfig, TrainingPairs, train
from models.training.split import split_by_key

TRAINING_KEYS = ["guide/known/*", "guide/training/*"]
VALIDATION_KEYS = ["guide/validation/*"]
COLUMNS: dict[str, tuple[Group, ...]] = {
    "known": ("known",),
    "unseen": ("unseen",),
    "unseen genera": ("unseen_genera",),
    "all": ("known", "unseen", "unseen_genera"),
}


def num_classes(groups: tuple[Group, ...]) -> int:
    """How many species a column tells apart."""
    return len(species_of(*groups))


@dataclass
class Row:
    """One method: its accuracies in percent, one for each seed, by column."""

    method: str
    accuracies: dict[str, list[float]] = field(default_factory=dict)

    def add(self, by_column: Mapping[str, float]) -> None:
        """Add the accuracies of one seed."""
        for column, value in by_column.items():
            self.accuracies.setdefault(column, []).append(value)

    def mean(self, column: str) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.accuracies[column]))

    def spread(self, column: str) -> float:
        """Half the range over the seeds; 0 for one seed or for a method without any."""
        return float(np.ptp(self.accuracies[column]) / 2)


class Quiz:
    """The tasks of all columns, embedded once."""

    def __init__(self, directory: Path, encoder: Encoder) -> None:
        self.validation = quiz_task(directory, encoder, "validation")
        self.tasks = {name: quiz_task(directory, encoder, *groups) for name, groups in COLUMNS.items()}

    def score(self, memory: Memory, fusion: Fusion | None, mode: str = "both") -> dict[str, float]:
        """Accuracy in percent by column; without a fusion, the frozen encoder's."""
        return {name: _score(task, memory, fusion, mode) for name, task in self.tasks.items()}


def train_demo_fusion(
    memory: Memory,
    config: TrainConfig,
    report: Callable[[EpochReport], None] | None = None,
    fusion: Fusion | None = None,
) -> Fusion:
    """Train on the guide's known and training species, validate on its validation species."""
    training_ids, validation_ids = split_by_key(memory, TRAINING_KEYS, VALIDATION_KEYS)
    pairs = TrainingPairs.from_memory(memory, training_ids)
    validation = TrainingPairs.from_memory(memory, validation_ids)
    return train(pairs, config, validation, report, fusion=fusion)


def measure(
    quiz: Quiz,
    before: Memory,
    after: Memory,
    fusions: Mapping[int, Fusion],
    config: TrainConfig,
) -> list[Row]:
    """The table of the demo.

    Args:
        quiz: what is asked.
        before: the memory without the newcomers; the fusions were trained on it.
        after: the memory with them.
        fusions: by seed.
        config: what the fusions were trained with; the MLP control gets the same.
    """
    frozen, mean, mlp = Row("frozen CLIP"), Row("mean fusion, tuned"), Row("same-size MLP, no memory")
    refined, without = Row("RECO"), Row("RECO, newcomers not in the memory")
    frozen.add(quiz.score(after, None))
    averaged, _, _ = tuned_mean_fusion(config.fusion, lambda one: _score(quiz.validation, before, one, "both"))
    mean.add(quiz.score(after, averaged))
    for fusion in fusions.values():
        refined.add(quiz.score(after, fusion))
        without.add(quiz.score(before, fusion))
    for seed in fusions:
        control = train_demo_fusion(before, replace(config, seed=seed), fusion=mlp_fusion(config.fusion))
        mlp.add(quiz.score(after, control))
    return [frozen, mean, mlp, refined, without]


def _score(task: ZeroShotTask, memory: Memory, fusion: Fusion | None, mode: str) -> float:
    return accuracy(task if fusion is None else refined_task(task, memory, fusion)[mode])
