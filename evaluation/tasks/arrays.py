"""Cached embeddings in one .npz, never pickled: a classification if it has `label`, else a retrieval.

    zero-shot   image (N, D)  label (N,)  text (C, D)  [class_name (C,)]  [unseen_class (U,), seen_class or train_class]
    retrieval   image (N, D)  text (M, D)  [pair (M,): the image of each text]  [caption (M,)]

numpy, and how the builder writes what is no text.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.forms import Kind
from evaluation.npz import Arrays, read_arrays
from evaluation.refinement import FloatArray
from evaluation.retrieval import RetrievalTask
from evaluation.tasks.task import EvalTask, check_classes, class_shown, embeddings, invalid, split_classes
from evaluation.zero_shot import ZeroShotTask
from memory_builder.records import readable

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # a terminal obeys them, and names are shown on one
_KNOWN = ("image", "text", "label", "class_name", "seen_class", "train_class", "unseen_class", "pair", "caption")


def read_npz(path: Path, kind: Kind | None) -> EvalTask:
    """Read a task.

    Args:
        path: the .npz.
        kind: forced; by default what its arrays say.

    Raises:
        EvaluationError: task_invalid, task_kind.
    """
    arrays, names = read_arrays(path, _KNOWN, "task_invalid")
    for name in ("image", "text"):
        if name not in arrays:
            raise invalid(path.name, f"it has no `{name}`, only {', '.join(names) or 'nothing'}")
    image, text = (embeddings(arrays[name], name, path.name) for name in ("image", "text"))
    if image.shape[1] != text.shape[1]:
        raise invalid(path.name, f"`image` has D = {image.shape[1]} and `text` has D = {text.shape[1]}")
    if kind is None:
        kind = "retrieval" if "label" not in arrays else "entities" if "unseen_class" in arrays else "zero-shot"
    if kind == "retrieval":
        return _retrieval(path, arrays, image, text)
    if "label" not in arrays:
        raise EvaluationError("task_kind", f"{path.name} has no `label`: it can only be a retrieval.")
    return _classification(path, arrays, image, text, kind)


def _classification(path: Path, arrays: Arrays, image: FloatArray, text: FloatArray, kind: Kind) -> EvalTask:
    labels = _whole_numbers(arrays["label"], "label", len(image), path.name)
    check_classes(labels, len(text), path.name)
    names = _texts(arrays, "class_name", len(text), path.name) or [""] * len(text)
    seen = unseen = None
    if kind == "entities":
        if "unseen_class" not in arrays:
            raise EvaluationError("task_kind", f"{path.name} has no `unseen_class`: it does not say what is unseen.")
        ids = {
            name: _whole_numbers(arrays[name], name, None, path.name)
            for name in ("unseen_class", "seen_class", "train_class")
            if name in arrays
        }
        known = ids.get("seen_class", ids.get("train_class"))
        seen, unseen = split_classes(ids["unseen_class"], known, labels, len(text), path.name)
    image_names = [f"image {row}: {names[label] or class_shown(label)}" for row, label in enumerate(labels)]
    return EvalTask(_name(path), ZeroShotTask(image, labels, text), names, image_names, seen=seen, unseen=unseen)


def _retrieval(path: Path, arrays: Arrays, image: FloatArray, text: FloatArray) -> EvalTask:
    if "pair" in arrays:
        pair = _whole_numbers(arrays["pair"], "pair", len(text), path.name)
    elif len(image) == len(text):
        pair = np.arange(len(text))
    else:
        raise invalid(
            path.name,
            f"it has {len(image):,} images and {len(text):,} texts and no `pair` (M,), the image of each text",
        )
    if pair.min() < 0 or pair.max() >= len(image):
        raise invalid(path.name, f"`pair` names an image outside its {len(image):,}")
    if len(image) < 2 or len(text) < 2:
        raise invalid(path.name, "a retrieval needs at least two images and two texts")
    captions = _texts(arrays, "caption", len(text), path.name) or [f"text {row}" for row in range(len(text))]
    caption_of = {int(row): caption for row, caption in zip(pair[::-1], captions[::-1], strict=True)}
    image_names = [f"image {row}: {caption_of.get(row, 'no text')}" for row in range(len(image))]
    return EvalTask(_name(path), RetrievalTask(image, text, pair), captions, image_names)


def _name(path: Path) -> str:
    return _CONTROL.sub(" ", readable(path.stem))


def _whole_numbers(array: NDArray[np.generic], name: str, count: int | None, source: str) -> NDArray[np.int64]:
    if array.ndim != 1 or array.dtype.kind not in "iu" or (count is not None and len(array) != count):
        expected = "whole numbers (N,)" if count is None else f"{count:,} whole numbers"
        raise invalid(source, f"`{name}` is {array.dtype}{list(array.shape)}, not {expected}")
    if array.size and int(array.max()) > np.iinfo(np.int64).max:  # of uint64
        raise invalid(source, f"`{name}` holds {int(array.max())}, which is no place in a list")
    return array.astype(np.int64)


def _texts(arrays: Arrays, name: str, count: int, source: str) -> list[str]:
    if name not in arrays:
        return []
    array = arrays[name]
    if array.shape != (count,) or array.dtype.kind != "U":
        raise invalid(source, f"`{name}` is {array.dtype}{list(array.shape)}, not {count:,} texts")
    return [_CONTROL.sub(" ", readable(str(text))) for text in array]
