"""One task from its arrays to all of its figures. No file is written here and nothing is printed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation.array_memory import SearchesNeighbours
from evaluation.bootstrap import Bootstrap
from evaluation.curves import Point, fits_in_ram, memory_size_curve, neighbours_curve
from evaluation.distrust import unknown_without_weight, weight_without_copies, why_no_weight
from evaluation.duplicates import Duplicates, LeavingOut, near_duplicates
from evaluation.errors import EvaluationError
from evaluation.figures import Section
from evaluation.measuring import measure, per_class
from evaluation.refinement import Sides
from evaluation.retrieval import RetrievalTask
from evaluation.task_sides import task_sides_at
from evaluation.tasks import EvalTask
from evaluation.unseen_pairs import without_unseen_pairs
from memory import DUPLICATE_COSINE, SearchableMemory
from models.fusion import Fusion

FEWEST_IMAGES = 50  # for an interval: of fewer it may miss what is rare
_SAW_COPIES = (
    "The fusion was trained on this memory. Unless `--pairs` or `--names` kept the copies of test images out of that, "
    "no column undoes it: take them out (`reco memory remove --like`) and train again, or test on other images."
)


@dataclass(frozen=True)
class EvalConfig:
    """How to evaluate.

    Attributes:
        k: neighbours a query; None for the fusion's own.
        bootstrap: of the intervals.
        duplicate_cosine: from which on a memory item counts as a copy of a test image.
        curves: also measure over the size of the memory and over k.
        without_unseen: also measure tasks of entities without the unseen ones' pairs in the memory.
        trained_on: digest of the memory that each fusion was trained on; None where it does not say.
    """

    k: int | None = None
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    duplicate_cosine: float = DUPLICATE_COSINE
    curves: bool = False
    without_unseen: bool = False
    trained_on: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """All figures of one task; `sections` are the tables, `sides` what the fusions made of the task.

    `saw_copies`: a fusion was trained on this very memory, or a part of it, and it holds copies of test images.
    """

    task: EvalTask
    k: int
    sections: list[Section]
    per_class: list[dict[str, Any]]
    duplicates: Duplicates
    sides: list[Sides]
    notes: tuple[str, ...] = ()
    memory_size: list[Point] = field(default_factory=list)
    neighbours: list[Point] = field(default_factory=list)
    saw_copies: bool = False


def evaluate(
    task: EvalTask,
    memory: SearchableMemory,
    fusions: Sequence[Fusion],
    config: EvalConfig,
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> TaskResult:
    """Measure a task.

    Args:
        task: what is asked.
        memory: where refined queries look.
        fusions: several seeds of one design, on the CPU.
        config: how.
        report: told what is being done, how much of it is done, and how much there is.

    Raises:
        EvaluationError: fusions_differ, k_too_large, memory_empty, task_invalid (another D).
    """
    k = check_parts(memory, fusions, config.k)
    if task.texts.shape[1] != memory.embed_dim:
        raise EvaluationError(
            "task_invalid",
            f"{task.name} has embeddings of D = {task.texts.shape[1]} and the memory of D = {memory.embed_dim}: they "
            "are not from one encoder.",
        )
    sides = _refine(task, memory, fusions, k, report)
    sections = measure(task, sides, config.bootstrap)
    report("looking for near-duplicates", 0, 1)
    duplicates = near_duplicates(task.task.images, memory, config.duplicate_cosine)
    report("looking for near-duplicates", 1, 1)
    saw_copies = len(duplicates.item_ids) > 0 and memory.digest in config.trained_on
    notes = [*task.notes, *_repeated(task), *_few_images(task, config.bootstrap)]
    unknown = [unknown_without_weight(task, memory, fusion, k) for fusion in fusions]
    notes += [*why_no_weight(task, memory, unknown), *([_SAW_COPIES] if saw_copies else [])]

    def measured(part: SearchesNeighbours) -> list[Section]:
        return measure(task, _refine(task, part, fusions, k, report), config.bootstrap)

    if 0 < len(duplicates.item_ids) < memory.num_items:
        hidden = LeavingOut(memory, duplicates.item_ids)
        for section, without in zip(sections, measured(hidden), strict=True):
            section.measures[f"{section.headline} without copies"] = without.measures[section.headline]
        notes += weight_without_copies(unknown, [unknown_without_weight(task, hidden, fusion, k) for fusion in fusions])
    elif len(duplicates.item_ids):
        notes.append("Every item of the memory copies a test image: nothing is left to look up without the copies.")
    if config.without_unseen and task.kind == "entities":
        more, told = without_unseen_pairs(
            task, memory, measured, lambda part: unknown_without_weight(task, part, fusions[0], k)
        )
        sections, notes = [*sections, *more], [*notes, told]
    memory_size, neighbours = list[Point](), list[Point]()
    if config.curves:
        neighbours = neighbours_curve(task, memory, fusions)
        if fits_in_ram(memory):
            memory_size = memory_size_curve(
                task, memory, fusions, k, report=lambda done, total: report("memory sizes", done, total)
            )
        else:
            notes.append("The memory is too large for RAM: no curve over its size.")
    return TaskResult(
        task, k, sections, per_class(task, sides), duplicates, sides, tuple(notes), memory_size, neighbours, saw_copies
    )


def check_parts(memory: SearchesNeighbours, fusions: Sequence[Fusion], k: int | None) -> int:
    """Refuse fusions that are not seeds of one design, and a k that the parts do not have.

    Returns:
        The k to use.

    Raises:
        EvaluationError: fusions_differ, k_too_large, memory_empty.
    """
    if memory.num_items == 0:
        raise EvaluationError("memory_empty", "The memory has no item left to look up: add pairs with `reco build`.")
    first = fusions[0].config
    if any(fusion.config != first for fusion in fusions):
        beside = {True: " and what weighs label sets", False: ""}
        kinds = sorted(
            {f"{one.config.design} with k = {one.config.k}{beside[one.config.label_sets]}" for one in fusions}
        )
        raise EvaluationError(
            "fusions_differ",
            f"The fusions are {' and '.join(kinds)}: only seeds of one design have a mean. Evaluate each by itself.",
        )
    wanted = first.k if k is None else k
    if first.most_k is not None and wanted > first.most_k:
        raise EvaluationError(
            "k_too_large", f"k = {wanted}, and a {first.design} fusion trained with k = {first.k} takes no more."
        )
    if k is not None and wanted > memory.num_items:
        raise EvaluationError("k_too_large", f"k = {wanted}, and the memory has {memory.num_items:,} items.")
    return wanted


def _few_images(task: EvalTask, bootstrap: Bootstrap) -> list[str]:
    """Of few images the bootstrap draws too narrow an interval: with 20, of which 1 gains, it has no width one time in
    three."""
    drawn = task.equal_images  # what is given twice is drawn once
    if isinstance(task.task, RetrievalTask):
        parts = [drawn[task.task.queries("image")]]
    elif task.unseen is not None and task.seen is not None:
        parts = [drawn[part[task.task.labels]] for part in (task.seen, task.unseen)]
    else:
        parts = [drawn]
    counts = [len(np.unique(part)) for part in parts]
    if not bootstrap.resamples or min(counts) >= FEWEST_IMAGES:
        return []
    number = "1 image" if min(counts) == 1 else f"{min(counts)} images"
    part = " of a part" if len(counts) > 1 else ""
    return [
        f"Intervals are too narrow where they are of {number}{part}, and say nothing where they have no width: test on "
        f"{FEWEST_IMAGES} or more."
    ]


def _repeated(task: EvalTask) -> list[str]:
    """A caption of several images has one right image a row all the same, so has an image that is given several times,
    and of equal classes only the first is ever answered: whoever reads R@1 or top-1 should know."""
    equal = len(task.task.images) - len(np.unique(task.equal_images))
    if task.kind != "retrieval":
        same = len(task.texts) - len(np.unique(task.texts, axis=0))
        told = []
        if equal:
            told.append(f"{equal:,} of the images equal an earlier one: the intervals count each once.")
        if same:
            told.append(
                f"{same:,} of the classes have the same text embedding as an earlier class, which gets the images of "
                "both: merge them, or give them different names."
            )
        return told
    assert isinstance(task.task, RetrievalTask)
    images_of = defaultdict[str, set[int]](set)
    for caption, image in zip(task.text_names, task.task.image_of_text.tolist(), strict=True):
        images_of[caption].add(image)
    shared, told = sum(len(images) > 1 for images in images_of.values()), list[str]()
    if shared:
        many = "1 caption belongs" if shared == 1 else f"{shared:,} captions belong"
        told.append(f"{many} to several images; only the image of its own row is right.")
    if equal:
        told.append(
            f"{equal:,} of the images equal an earlier one, and only a text's own row is right: give each image once, "
            "and `pair` for its texts."
        )
    return told


def _refine(
    task: EvalTask,
    memory: SearchesNeighbours,
    fusions: Sequence[Fusion],
    k: int,
    report: Callable[[str, int, int], None],
) -> list[Sides]:
    sides: list[Sides] = []
    for number, fusion in enumerate(fusions, start=1):
        sides += task_sides_at(task, memory, fusion, [k])
        report("refining", number, len(fusions))
    return sides
