"""What is measured on a task once both sides are refined: the sections of its table. Arrays in, figures out.

Shapes: S seeds, N images, C classes, Q queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap
from evaluation.entities import entity_measures
from evaluation.figures import Measure, Section, plain, share, stacked
from evaluation.refinement import SCORINGS, Scoring, Sides
from evaluation.retrieval import RECALL_AT, RetrievalTask, ranks, recall_by_chance
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask, per_class_accuracy, predictions
from memory import Modality

TOP_1 = "top-1"
R_AT_1 = "R@1"
DIRECTIONS: dict[Modality, tuple[str, str]] = {
    "text": ("text_to_image", "text to image"),
    "image": ("image_to_text", "image to text"),
}


def measure(task: EvalTask, seeds: Sequence[Sides], bootstrap: Bootstrap) -> list[Section]:
    """All tables of a task.

    Args:
        task: what is asked.
        seeds: its sides as refined by each fusion.
        bootstrap: draws the intervals.
    """
    groups = task.equal_images
    if isinstance(task.task, RetrievalTask):
        return [_retrieval(task.task, seeds, bootstrap, groups, modality) for modality in DIRECTIONS]
    correct = _correct(task.task, seeds)
    sections = [_zero_shot(task.task, correct, bootstrap, groups)]
    if task.seen is not None and task.unseen is not None:
        seen, unseen = (part[task.task.labels] for part in (task.seen, task.unseen))
        measures = entity_measures(correct, seen, unseen, bootstrap, groups)
        asked = f"{int(seen.sum()):,} images of seen, {int(unseen.sum()):,} of unseen ones"
        chance = dict.fromkeys(measures, 100 / len(task.texts))
        title = "seen and unseen entities"
        sections.append(Section("entities", title, measures, "harmonic mean", asked=asked, chance=chance))
    return sections


def headlines(task: EvalTask, seeds: Sequence[Sides]) -> dict[str, dict[Scoring, float]]:
    """The one figure of each section that a curve follows, mean over the seeds, in percent."""
    found = {}
    for section in measure(task, seeds, Bootstrap(resamples=0)):
        figures = section.measures[section.headline]
        found[section.name] = {scoring: figures[scoring].mean for scoring in SCORINGS}
    return found


def per_class(task: EvalTask, seeds: Sequence[Sides]) -> list[dict[str, Any]]:
    """Accuracy of each class by scoring, mean over the seeds, in percent; empty for a retrieval."""
    if not isinstance(task.task, ZeroShotTask):
        return []
    correct = _correct(task.task, seeds)
    labels, num_classes = task.task.labels, len(task.texts)
    counts = np.bincount(labels, minlength=num_classes)
    by_scoring = {
        scoring: per_class_accuracy(correct[scoring].mean(axis=0), labels, num_classes) for scoring in SCORINGS
    }
    return [
        {"class": name, "images": int(count), **{scoring: float(by_scoring[scoring][row]) for scoring in SCORINGS}}
        for row, (name, count) in enumerate(zip(task.shown_names, counts, strict=True))
        if count
    ]


def _correct(task: ZeroShotTask, seeds: Sequence[Sides]) -> dict[Scoring, NDArray[np.float64]]:
    """1.0 where an image got its class, (S, N) by scoring."""
    found = stacked([predictions(sides) for sides in seeds])
    return {scoring: (found[scoring] == task.labels).astype(np.float64) for scoring in SCORINGS}


def _zero_shot(
    task: ZeroShotTask, correct: dict[Scoring, NDArray[np.float64]], bootstrap: Bootstrap, groups: NDArray[np.int64]
) -> Section:
    num_classes = len(task.class_texts)
    mean_per_class = {
        scoring: np.array([np.nanmean(per_class_accuracy(one, task.labels, num_classes)) for one in correct[scoring]])
        for scoring in SCORINGS
    }
    measures = {TOP_1: share(correct, bootstrap, groups), "mean per class": plain(mean_per_class)}
    title = f"zero-shot among {num_classes:,} classes"
    asked = "1 image" if len(task.images) == 1 else f"{len(task.images):,} images"
    chance = dict.fromkeys(measures, 100 / num_classes)
    return Section("zero_shot", title, measures, TOP_1, asked=asked, chance=chance)


def _retrieval(
    task: RetrievalTask,
    seeds: Sequence[Sides],
    bootstrap: Bootstrap,
    groups: NDArray[np.int64],
    modality: Modality,
) -> Section:
    found = stacked([ranks(task, sides, modality) for sides in seeds])
    # The captions of one image are not independent: they are drawn together.
    groups = groups[task.image_of_text if modality == "text" else task.queries("image")]
    measures: dict[str, Measure] = {
        f"R@{at}": share({one: (found[one] <= at).astype(np.float64) for one in SCORINGS}, bootstrap, groups)
        for at in RECALL_AT
    }
    measures["median rank"] = plain({scoring: np.median(found[scoring], axis=1) for scoring in SCORINGS})
    name, title = DIRECTIONS[modality]
    asking, among = len(task.queries(modality)), len(task.images if modality == "text" else task.texts)
    other = "image" if modality == "text" else "text"
    asked = f"{asking:,} {modality}s among {among:,} {other}s"
    chance = {f"R@{at}": recall_by_chance(task, modality, at) for at in RECALL_AT}
    return Section(name, title, measures, R_AT_1, frozenset({"median rank"}), asked, chance)
