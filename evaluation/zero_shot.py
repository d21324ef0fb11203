"""Zero-shot classification from embeddings: accuracy of an image against one text a class.

Shapes: N images, C classes, D embedding dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.array_memory import SearchesNeighbours
from evaluation.label_sets import label_set_sides_at
from evaluation.refinement import SCORINGS, Scoring, Sides
from evaluation.ties import first_best
from memory import Modality
from models.fusion import Fusion


@dataclass(frozen=True)
class ZeroShotTask:
    """A classification task in one vector space.

    Attributes:
        images: (N, D) float32, unit norm.
        labels: (N,) int64, the class of each image.
        class_texts: (C, D) float32, unit norm; a class with several prompts is their mean, normalised again.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_texts: NDArray[np.float32]

    def __post_init__(self) -> None:
        outside = self.labels.max(initial=0) >= len(self.class_texts) or self.labels.min(initial=0) < 0
        if len(self.images) != len(self.labels) or outside:
            raise ValueError("a zero-shot task needs one label an image, each the number of a class text")

    @property
    def first_of_ties(self) -> bool:
        """A tie is the class that comes first, as in `accuracy`."""
        return True

    def queries(self, modality: Modality) -> NDArray[np.int64]:
        """The queries that have a right answer: all images."""
        assert modality == "image", "a class text has no one right image"
        return np.arange(len(self.images))

    def relevant(self, modality: Modality, queries: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which class texts are right for some images: (Q, C), one True a row."""
        assert modality == "image", "a class text has no one right image"
        return np.equal.outer(self.labels[queries], np.arange(len(self.class_texts)))


def accuracy(task: ZeroShotTask) -> float:
    """Top-1 accuracy in percent; a tie counts for the class that comes first."""
    predicted = first_best(task.images @ task.class_texts.T)
    return float((predicted == task.labels).mean() * 100)


def refined_task(
    task: ZeroShotTask,
    memory: SearchesNeighbours,
    fusion: Fusion,
    *,
    k: int | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, ZeroShotTask]:
    """The task in all four modes: which sides are refined before they meet.

    Args:
        task: with original embeddings.
        memory: searched with each side's own modality.
        fusion: refines; on the CPU.
        k: neighbours; None for the fusion's own.
        names: (C,) of the classes, which captions may mention, if they are known.

    Returns:
        `none`, `image`, `text` and `both`.
    """
    ks = [fusion.config.k if k is None else k]
    [sides] = label_set_sides_at(task.images, task.class_texts, memory, fusion, ks, names)
    image, text = replace(task, images=sides.refined_image), replace(task, class_texts=sides.refined_text)
    return {"none": task, "image": image, "text": text, "both": replace(image, class_texts=text.class_texts)}


def predictions(sides: Sides) -> dict[Scoring, NDArray[np.int64]]:
    """The class (N,) that each scoring gives each image; a tie goes to the class that comes first."""
    return {
        scoring: np.concatenate([first_best(sides.scores(scoring, "image", rows)) for rows in sides.blocks("image")])
        for scoring in SCORINGS
    }


def per_class_accuracy(
    correct: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """Accuracy (C,) in percent from the outcome (N,) of each image, 0 to 1; NaN for a class without images."""
    counts = np.bincount(labels, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, weights=correct, minlength=num_classes) / counts * 100
