"""What the memory is worth in the field guide: accuracy before and after, beside the controls, over several seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from demo.quiz import quiz_task
from demo.species import Group, species_of
from evaluation import ZeroShotTask, accuracy, mlp_fusion, refined_task, tuned_mean_fusion
from memory import Memory, Modality
from models.encoder import Encoder
from models.fusion import Fusion
from models.training import EpochReport, TrainConfig, TrainingPairs, train
from models.training.calibration import LabelledQueries, calibrate
from models.training.pairs import Batch
from models.training.split import split_by_key

TRAINING_KEYS = ["guide/known/*-00?", "guide/known/*-01[0-6]", "guide/training/*"]
VALIDATION_KEYS = ["guide/validation/*"]  # species that training does not show: when to stop, and the gates
KNOWN_KEYS = ["guide/known/*-01[7-9]"]  # pairs of known species held out of training: the gates
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
        parts = {group: quiz_task(directory, encoder, group) for group in COLUMNS["all"]}
        self.tasks = {name: _joined([parts[group] for group in groups]) for name, groups in COLUMNS.items()}

    def score(self, memory: Memory, fusion: Fusion | None, mode: str = "both") -> dict[str, float]:
        """Accuracy in percent by column; without a fusion, the frozen encoder's."""
        return {name: _score(task, memory, fusion, mode) for name, task in self.tasks.items()}


class Lessons:
    """What a fusion of the demo is trained on: known and training species, their neighbours searched once."""

    def __init__(self, memory: Memory, quiz: Quiz, k: int) -> None:
        training_ids, validation_ids = split_by_key(memory, TRAINING_KEYS, VALIDATION_KEYS)
        self._pairs = TrainingPairs.from_memory(memory, training_ids)
        self._validation = TrainingPairs.from_memory(memory, validation_ids)
        self._gate_tasks = [_held_out_known(memory, quiz, k), _validation(memory, quiz, k)]

    def train(self, config: TrainConfig, report: Callable[[EpochReport], None] | None = None) -> Fusion:
        """Train a fusion; stop, and set the gates, by what is held out of training."""
        fusion = train(self._pairs, config, self._validation, report)
        if config.fusion.design == "trust":
            calibrate(fusion, self._gate_tasks)
        return fusion

    def train_control(self, config: TrainConfig) -> Fusion:
        """Train the same-size MLP, which sees no memory, in the same way."""
        return train(self._pairs, config, self._validation, fusion=mlp_fusion(config.fusion))


def _validation(memory: Memory, quiz: Quiz, k: int) -> LabelledQueries:
    """The quiz of the validation species, names that CLIP does not know."""
    task = quiz.validation
    image = _found(memory, task.images, "image", k)
    return LabelledQueries(image, _found(memory, task.class_texts, "text", k), torch.from_numpy(task.labels))


def _held_out_known(memory: Memory, quiz: Quiz, k: int) -> LabelledQueries:
    """Pairs of the known species that training did not show; each searches the memory without itself."""
    known = {species.slug: number for number, species in enumerate(species_of("known"))}
    keys = memory.keys()
    ids, _ = split_by_key(memory, KNOWN_KEYS, VALIDATION_KEYS)
    pairs = TrainingPairs.from_memory(memory, ids, num_candidates=k)
    everyone = torch.arange(len(ids))
    first = torch.arange(k).expand(len(ids), -1)
    image = pairs.batch("image", everyone, first, torch.ones_like(first, dtype=torch.bool))
    labels = [known[Path(keys[one]).name.rsplit("-", 1)[0]] for one in ids]
    return LabelledQueries(image, _found(memory, quiz.tasks["known"].class_texts, "text", k), torch.tensor(labels))


def _found(memory: Memory, queries: NDArray[np.float32], modality: Modality, k: int) -> Batch:
    queries = np.ascontiguousarray(queries)
    found = memory.search(queries, k, modality=modality)
    return Batch(*map(torch.from_numpy, (queries, found.values, found.similarities, found.mask)))


def measure(
    quiz: Quiz,
    before: Memory,
    after: Memory,
    fusions: Mapping[int, Fusion],
    lessons: Lessons,
    config: TrainConfig,
) -> list[Row]:
    """The table of the demo.

    Args:
        quiz: what is asked.
        before: the memory without the newcomers; the fusions were trained on it.
        after: the memory with them.
        fusions: by seed.
        lessons: what the fusions were trained on.
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
        control = lessons.train_control(replace(config, seed=seed))
        mlp.add(quiz.score(after, control))
    return [frozen, mean, mlp, refined, without]


def _joined(parts: list[ZeroShotTask]) -> ZeroShotTask:
    """One task of telling the classes of all parts apart."""
    starts = np.cumsum([0] + [len(part.class_texts) for part in parts[:-1]])
    return ZeroShotTask(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.class_texts for part in parts]),
    )


def _score(task: ZeroShotTask, memory: Memory, fusion: Fusion | None, mode: str) -> float:
    return accuracy(task if fusion is None else refined_task(task, memory, fusion)[mode])
