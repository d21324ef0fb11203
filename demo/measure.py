"""What the memory is worth in the field guide: accuracy before and after, beside the controls, over several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from demo.quiz import quiz_task
from demo.species import Group, species_of
from evaluation.controls import mlp_fusion, tuned_mean_fusion
from evaluation.zero_shot import ZeroShotTask, accuracy, refined_task
from memory import Memory
from models.encoder import Encoder
from models.fusion import Fusion
from models.training import TrainingPairs, train
from models.training.dataset.entities import by_names
from models.training.dataset.entity_pairs import EntityPairs
from models.training.dataset.split import split_by_key
from models.training.fitting.evidence import fit_evidence
from models.training.gradients.resume import EpochReport
from models.training.recipes import fusion_config, recipe

TRAINING_GROUPS: tuple[Group, ...] = ("known", "training")  # whose names the fusion is told
TRAINING_KEYS = [f"guide/{group}/*" for group in TRAINING_GROUPS]
VALIDATION_KEYS = ["guide/validation/*"]  # species that training does not show: for when the control stops
COLUMNS: dict[str, tuple[Group, ...]] = {
    "known": ("known",),
    "unseen": ("unseen",),
    "unseen genera": ("unseen_genera",),
    "all": ("known", "unseen", "unseen_genera"),
}


def num_classes(groups: tuple[Group, ...]) -> int:
    """How many species a column tells apart."""
    return len(species_of(*groups))


def names_of(*groups: Group) -> list[str]:
    """The names of some groups' species, group by group, as `Quiz` joins their tasks."""
    return [species.name for group in groups for species in species_of(group)]


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
        return {name: _score(task, memory, fusion, mode, names_of(*COLUMNS[name])) for name, task in self.tasks.items()}


class Lessons:
    """What a fusion of the demo is trained on: pairs whose captions name a known or a training species."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        names = [species.name for species in species_of(*TRAINING_GROUPS)]
        self._pairs = EntityPairs.from_memory(memory, by_names(memory.captions(), names))

    def fit(self, seed: int) -> Fusion:
        """Fit a fusion."""
        return fit_evidence(self._pairs, fusion_config("evidence", self._memory.embed_dim), seed)

    def train_controls(self, seeds: list[int], report: Callable[[int, int], None]) -> list[Fusion]:
        """Train the same-size MLP, which sees no memory, on the same species by the paper's loss.

        Args:
            seeds: one control each.
            report: told epochs done and epochs in all.
        """
        ids = split_by_key(self._memory, TRAINING_KEYS, VALIDATION_KEYS)
        pairs, validation = (TrainingPairs.from_memory(self._memory, part) for part in ids)
        configs = [recipe("faithful", self._memory.embed_dim, seed=seed) for seed in seeds]
        controls = []
        for number, config in enumerate(configs):

            def epoch(told: EpochReport, before: int = number) -> None:
                report(before * told.epochs + told.epoch, len(configs) * told.epochs)

            controls.append(train(pairs, config, validation, epoch, fusion=mlp_fusion(config.fusion)))
        return controls


def measure(
    quiz: Quiz,
    before: Memory,
    after: Memory,
    fusions: Mapping[int, Fusion],
    lessons: Lessons,
    *,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[Row]:
    """The table of the demo.

    Args:
        quiz: what is asked.
        before: the memory without the newcomers; the fusions were trained on it.
        after: the memory with them.
        fusions: by seed.
        lessons: what the fusions were trained on; the MLP control gets the same.
        report: told epochs of the controls that are done, and how many there are.
    """
    frozen, mean, mlp = Row("frozen CLIP"), Row("mean fusion, tuned"), Row("same-size MLP, no memory")
    refined, without = Row("RECO"), Row("RECO, newcomers not in the memory")
    frozen.add(quiz.score(after, None))
    averaged, _, _ = tuned_mean_fusion(
        fusions[min(fusions)].config, lambda one: _score(quiz.validation, before, one, "both")
    )
    mean.add(quiz.score(after, averaged))
    for fusion in fusions.values():
        refined.add(quiz.score(after, fusion))
        without.add(quiz.score(before, fusion))
    for control in lessons.train_controls(list(fusions), report):
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


def _score(
    task: ZeroShotTask, memory: Memory, fusion: Fusion | None, mode: str, names: Sequence[str] | None = None
) -> float:
    return accuracy(task if fusion is None else refined_task(task, memory, fusion, names=names)[mode])
