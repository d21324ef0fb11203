"""A task ready to be measured, whatever it was read from. Imports numpy and the task types.

Shapes: N images, M texts (for a classification: C classes), D embedding dim.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.forms import Kind
from evaluation.refinement import FloatArray
from evaluation.retrieval import RetrievalTask
from evaluation.zero_shot import ZeroShotTask


@dataclass(frozen=True)
class EvalTask:
    """Arrays to measure on, and names to show.

    Attributes:
        name: for people and file names.
        task: the arrays.
        text_names: (M,) class names or captions; "" where none are known: captions would be searched for a made-up one.
        image_names: (N,) where each image came from.
        thumbnails: (N,) JPEG bytes, or empty if the images themselves are not at hand.
        unseen: (C,) bool, the entities that training did not show; None if the task does not say.
        seen: (C,) bool, likewise.
        rejected: rows that could not be used, by code.
        notes: sentences that a reader of the numbers should see.
        details: JSON-ready facts of how the task was made.
    """

    name: str
    task: ZeroShotTask | RetrievalTask
    text_names: Sequence[str]
    image_names: Sequence[str]
    thumbnails: Sequence[bytes] = ()
    seen: NDArray[np.bool_] | None = None
    unseen: NDArray[np.bool_] | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What is measured."""
        if isinstance(self.task, RetrievalTask):
            return "retrieval"
        return "zero-shot" if self.unseen is None else "entities"

    @property
    def texts(self) -> FloatArray:
        """(M, D) float32, unit norm."""
        return self.task.texts if isinstance(self.task, RetrievalTask) else self.task.class_texts

    @cached_property
    def equal_images(self) -> NDArray[np.int64]:
        """The group (N,) of each image: one given twice tells nothing twice, so that equal ones are drawn together."""
        images = np.ascontiguousarray(self.task.images)
        rows = images.view(np.dtype((np.void, images.itemsize * images.shape[1])))
        groups: NDArray[np.int64] = np.unique(rows.ravel(), return_inverse=True)[1]
        return groups

    @property
    def shown_names(self) -> list[str]:
        """(M,) the names for people."""
        return [self.shown_name(place) for place in range(len(self.text_names))]

    def shown_name(self, place: int) -> str:
        """A name for people: of a class without one, its number."""
        return self.text_names[place] or class_shown(place)

    @property
    def digest(self) -> str:
        """SHA-256 over the arrays and names: two tasks of one digest give the same figures."""
        answers = self.task.image_of_text if isinstance(self.task, RetrievalTask) else self.task.labels
        sha256 = hashlib.sha256()
        for array in (self.task.images, self.texts, answers):
            sha256.update(f"{array.dtype}{array.shape}".encode())
            sha256.update(np.ascontiguousarray(array).data)
        for mask in (self.seen, self.unseen):
            sha256.update(b"-" if mask is None else np.packbits(mask).tobytes())
        for name in self.text_names:
            sha256.update(b"\0" + name.encode("utf-8", "surrogatepass"))
        return sha256.hexdigest()

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "task"


def embeddings(array: NDArray[np.generic], name: str, source: str) -> FloatArray:
    """Accept cached embeddings of any length, as the builder does: (N, D) float32, unit norm.

    Raises:
        EvaluationError: task_invalid.
    """
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise invalid(source, f"`{name}` is {array.dtype}{list(array.shape)}, not embeddings (N, D) of a float type")
    largest = np.abs(array).max(axis=1)
    wrong = np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))
    if wrong.size:
        raise invalid(source, f"`{name}` row {int(wrong[0])} is zero or not finite: leave such rows out")
    scale = -np.frexp(largest)[1][:, None]  # exact, and no square is too large or too small for float32
    rows = np.ldexp(array.astype(np.result_type(array, np.float32)), scale).astype(np.float32)
    unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def class_shown(number: int) -> str:
    """What a class without a name is called for people."""
    return f"class {number}"


def check_classes(labels: NDArray[np.int64], num_classes: int, source: str) -> None:
    """Accept the labels (N,) of a classification among C classes.

    Raises:
        EvaluationError: task_invalid.
    """
    if num_classes < 2:
        raise invalid(source, f"it has {num_classes} class{'' if num_classes else 'es'}: a choice needs at least two")
    if not len(labels):
        raise invalid(source, "it has no image")
    if labels.min() < 0 or labels.max() >= num_classes:
        worst = int(labels.min() if labels.min() < 0 else labels.max())
        raise invalid(source, f"label {worst} is not the number of one of its {num_classes} classes")


def split_classes(
    unseen: NDArray[np.int64], seen: NDArray[np.int64] | None, labels: NDArray[np.int64], num_classes: int, source: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which classes (C,) are seen and which unseen; without `seen`, all that are not unseen.

    Raises:
        EvaluationError: task_invalid.
    """
    masks = np.zeros((2, num_classes), dtype=np.bool_)
    for mask, ids in zip(masks, (seen, unseen), strict=True):
        if ids is not None:
            if len(ids) and (ids.min() < 0 or ids.max() >= num_classes):
                raise invalid(source, f"its seen or unseen classes name a class outside its {num_classes}")
            mask[ids] = True
    if seen is None:
        masks[0] = ~masks[1]
    if (masks[0] & masks[1]).any():
        raise invalid(source, f"class {int(np.flatnonzero(masks[0] & masks[1])[0])} is both seen and unseen")
    for mask, word in zip(masks, ("seen", "unseen"), strict=True):
        if not mask[labels].any():
            raise invalid(source, f"none of its images shows {'an' if word == 'unseen' else 'a'} {word} entity")
    return masks[0], masks[1]


def invalid(source: str, problem: str) -> EvaluationError:
    """The error of a task that contradicts itself."""
    return EvaluationError("task_invalid", f"{source}: {problem}.")
