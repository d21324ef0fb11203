"""A world from cached few-shot embeddings: images of many classes in disjoint draws, one text a class.

Memory and queries are different draws, each way round once; queries show classes that were never fitted on.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.world import FloatArray, Items, Part, Question, World
from evaluation.errors import EvaluationError

KEYS = ("image", "label", "shot_set", "text", "class_name", "train_class", "unseen_class")
FIRST_DRAWS = (1, 2)  # one side of the swap; the other side is every other draw
LEAST_TRAINING = 16
VALIDATION_SHARE = 1 / 3  # of the training classes
POOL, NAMES = "image_pool.npz", "class_name_texts.npz"  # beside the file: other images, and texts to caption them with
_SEED = 0  # of the validation classes and of the pool's captions: one world, whatever the seeds of its rows


def load_fewshot(path: Path) -> World:
    """Read the arrays and split them.

    Args:
        path: an .npz with `image` (N, D), `label` (N,), `shot_set` (N,), `text` (C, D), `class_name` (C,),
            `train_class` and `unseen_class`.

    Raises:
        EvaluationError: world_invalid.
    """
    arrays = _read(path, KEYS)
    _check(path, arrays)
    image, text = _unit(path, arrays["image"]), _unit(path, arrays["text"])
    label = arrays["label"].astype(np.int64)
    everything = Items(image, text[label], label)
    first = np.isin(arrays["shot_set"], FIRST_DRAWS)
    train, unseen = (np.sort(arrays[name].astype(np.int64)) for name in ("train_class", "unseen_class"))
    order = np.random.default_rng(_SEED).permutation(train)
    count = round(VALIDATION_SHARE * len(train))
    held_out, shown = np.sort(order[:count]), np.sort(order[count:])
    classes = np.arange(len(text))
    columns = {f"{len(classes)}-way": classes, f"{len(unseen)}-way": unseen}
    validation_columns = {f"{len(train)}-way": train, f"{count}-way": held_out}
    known = everything.kept(np.isin(label, train))
    return World(
        name=path.stem,
        about={
            "classes": len(text),
            "training classes": len(train),
            "unseen classes": len(unseen),
            "images": len(image),
        },
        training=known,
        parts=_both_ways(everything, first, text, unseen, columns),
        choosing=everything.kept(np.isin(label, shown)),
        validation=_both_ways(known, first[np.isin(label, train)], text, held_out, validation_columns),
        noise=_noise(path.parent),
        weakenable=True,
    )


def _both_ways(
    everything: Items,
    first: NDArray[np.bool_],
    text: FloatArray,
    asked: NDArray[np.int64],
    columns: dict[str, NDArray[np.int64]],
) -> tuple[Part, ...]:
    """The first draws as the memory and the others as queries, and the other way round."""
    parts = []
    for in_memory in (first, ~first):
        queries = everything.kept(~in_memory & np.isin(everything.entity, asked))
        items = everything.kept(in_memory)
        questions = {
            name: Question(queries.image, np.searchsorted(classes, queries.entity), text[classes], classes)
            for name, classes in columns.items()
        }
        parts.append(Part(items, np.isin(items.entity, asked), questions))
    return tuple(parts)


def _noise(folder: Path) -> Items | None:
    """Other images: every second one has the caption that is nearest to it, the others a random one."""
    if not all((folder / name).is_file() for name in (POOL, NAMES)):
        return None
    image, text = (
        _unit(folder / name, _read(folder / name, (key,))[key]) for name, key in ((POOL, "image"), (NAMES, "text"))
    )
    caption = np.random.default_rng(_SEED).integers(0, len(text), len(image))
    caption[::2] = (image[::2] @ text.T).argmax(axis=1)
    return Items(image, text[caption], np.full(len(image), -1, dtype=np.int64))


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    try:
        # Opened here: numpy leaves a file that is no zip open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in keys if key not in file]
            if not missing:
                return {key: file[key] for key in keys}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise EvaluationError("world_invalid", f"{path} cannot be read as an .npz without pickle: {error}") from error
    raise EvaluationError(
        "world_invalid", f"{path} has no {', '.join(missing)}: a few-shot world needs {', '.join(keys)}."
    )


def _check(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    image, text, label = arrays["image"], arrays["text"], arrays["label"]
    count = len(text)
    wrong = None
    if image.ndim != 2 or text.ndim != 2 or image.shape[1:] != text.shape[1:]:
        wrong = f"image {list(image.shape)} and text {list(text.shape)} are not (N, D) and (C, D)"
    elif label.shape != (len(image),) or arrays["shot_set"].shape != (len(image),):
        wrong = "label and shot_set do not have one number an image"
    elif len(arrays["class_name"]) != count:
        wrong = "class_name does not have one name a text"
    else:
        numbers = np.concatenate([label, arrays["train_class"], arrays["unseen_class"]])
        if not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0 or numbers.max() >= count:
            wrong = f"label, train_class and unseen_class are not class numbers from 0 to {count - 1}"
        elif len(arrays["train_class"]) < LEAST_TRAINING or len(arrays["unseen_class"]) < 2:
            wrong = f"{LEAST_TRAINING} training classes and 2 unseen ones are the least to split"
        elif np.intersect1d(arrays["train_class"], arrays["unseen_class"]).size:
            wrong = "a class is in both train_class and unseen_class"
        elif len(set(np.isin(arrays["shot_set"], FIRST_DRAWS).tolist())) < 2:
            wrong = "shot_set needs draws 1 and 2 for one side of the swap and others for the other"
    if wrong is not None:
        raise EvaluationError("world_invalid", f"{path}: {wrong}.")


def _unit(path: Path, rows: NDArray[np.generic]) -> FloatArray:
    single = rows.astype(np.float32)
    lengths = np.linalg.norm(single, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) <= 1e-2).all():  # written so that NaN fails it
        raise EvaluationError("world_invalid", f"{path}: embeddings must be finite and of unit norm.")
    return np.ascontiguousarray(single / lengths)
