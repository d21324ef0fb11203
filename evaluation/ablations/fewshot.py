"""A world from cached few-shot embeddings: images of many classes in disjoint draws, one text a class.

Memory and queries are different draws, each way round once; queries show classes that were never fitted on.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.world import FloatArray, Items, Part, Question, Wording, World
from evaluation.errors import EvaluationError
from evaluation.npz import Arrays, read_arrays

KEYS = ("image", "label", "shot_set", "text", "class_name", "train_class", "unseen_class")
FIRST_DRAWS = (1, 2)  # one side of the swap; the other side is every other draw
LEAST_TRAINING = 16
VALIDATION_SHARE = 1 / 3  # of the training classes
POOL, NAMES = "image_pool.npz", "class_name_texts.npz"  # beside the file: other images, and texts to caption them with
LEAST_NAMES = 8  # of unseen classes, for a wording to be asked about
_SAME = 0.999  # cosine
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
    parts = _both_ways(everything, first, text, unseen, columns)
    validation = _both_ways(known, first[np.isin(label, train)], text, held_out, validation_columns)
    if not all(len(question.images) for part in (*parts, *validation) for question in part.questions.values()):
        raise _invalid(path, "the unseen or the validation classes have no image in the draws of one side of the swap")
    return World(
        name=path.stem,
        about={
            "classes": len(text),
            "training classes": len(train),
            "unseen classes": len(unseen),
            "images": len(image),
        },
        training=known,
        parts=parts,
        choosing=everything.kept(np.isin(label, shown)),
        validation=validation,
        noise=_noise(path.parent, image.shape[1]),
        weakenable=True,
        wordings=_wordings(path.parent, arrays["class_name"], text, unseen),
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


def _noise(folder: Path, embed_dim: int) -> Items | None:
    """Other images: every second one has the caption that is nearest to it, the others a random one."""
    if not all((folder / name).is_file() for name in (POOL, NAMES)):
        return None
    image, text = (
        _unit(folder / name, _read(folder / name, (key,))[key]) for name, key in ((POOL, "image"), (NAMES, "text"))
    )
    for name, rows in ((POOL, image), (NAMES, text)):
        if rows.shape[1] != embed_dim:
            raise _invalid(folder / name, f"D = {rows.shape[1]}, and the world beside it has {embed_dim}: take it away")
    caption = np.random.default_rng(_SEED).integers(0, len(text), len(image))
    caption[::2] = (image[::2] @ text.T).argmax(axis=1)
    return Items(image, text[caption], np.full(len(image), -1, dtype=np.int64))


def _wordings(
    folder: Path, class_names: NDArray[np.generic], text: FloatArray, unseen: NDArray[np.int64]
) -> dict[str, Wording]:
    """Texts of other sources for the same names; a source that has the very same texts is none, nor one of few."""
    path = folder / NAMES
    arrays = _read(path, ("text",), optional=("name", "source")) if path.is_file() else {}
    if not {"name", "source"} <= set(arrays):
        return {}
    rows = _unit(path, arrays["text"])
    if rows.shape[1] != text.shape[1] or not len(rows) == len(arrays["name"]) == len(arrays["source"]):
        raise _invalid(path, f"text, name and source are not as many, or not of D = {text.shape[1]}: take it away")
    number = {_plain(name): place for place, name in enumerate(class_names)}
    found = {}
    for source in np.unique(arrays["source"]):
        named = {
            number[_plain(arrays["name"][row])]: row
            for row in np.flatnonzero(arrays["source"] == source)
            if _plain(arrays["name"][row]) in number
        }
        entity = np.array(sorted(named), dtype=np.int64)
        own = rows[[named[one] for one in entity.tolist()]]
        if np.isin(entity, unseen).sum() >= LEAST_NAMES and np.median((own * text[entity]).sum(axis=1)) < _SAME:
            found[str(source)] = Wording(entity, own)
    return found


def _plain(name: object) -> str:
    return " ".join(str(name).casefold().replace("_", " ").split())


def _read(path: Path, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> Arrays:
    arrays, _ = read_arrays(path, keys + optional, "world_invalid")
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise _invalid(path, f"it has no {', '.join(missing)}, and needs {', '.join(keys)}")
    return arrays


def _check(path: Path, arrays: Arrays) -> None:
    image, text, label, draws = (arrays[name] for name in ("image", "text", "label", "shot_set"))
    classes = {name: arrays[name] for name in ("train_class", "unseen_class")}
    if image.ndim != 2 or text.ndim != 2 or image.shape[1:] != text.shape[1:]:
        raise _invalid(path, f"image {list(image.shape)} and text {list(text.shape)} are not (N, D) and (C, D)")
    if label.shape != (len(image),) or draws.shape != (len(image),):
        raise _invalid(path, "label and shot_set do not have one number an image")
    if arrays["class_name"].shape != (len(text),):
        raise _invalid(path, "class_name does not have one name a text")
    for numbers in (label, *classes.values()):
        whole = numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer)
        if not whole or not np.isin(numbers, np.arange(len(text))).all():
            raise _invalid(path, f"label, train_class and unseen_class are not class numbers from 0 to {len(text) - 1}")
    for name, numbers in classes.items():
        if len(np.unique(numbers)) < len(numbers):
            raise _invalid(path, f"{name} names a class twice")  # it could be fitted on, and validated on as well
    if len(classes["train_class"]) < LEAST_TRAINING or len(classes["unseen_class"]) < 2:
        raise _invalid(path, f"{LEAST_TRAINING} training classes and 2 unseen ones are the least to split")
    if np.intersect1d(classes["train_class"], classes["unseen_class"]).size:
        raise _invalid(path, "a class is in both train_class and unseen_class")
    first = np.isin(draws, FIRST_DRAWS)
    if first.all() or not first.any():
        raise _invalid(path, "shot_set needs draws 1 and 2 for one side of the swap and others for the other")


def _unit(path: Path, rows: NDArray[np.generic]) -> FloatArray:
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise _invalid(path, f"embeddings are (N, D) of a float type, not {rows.dtype}{list(rows.shape)}")
    single = rows.astype(np.float32)
    lengths = np.linalg.norm(single, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) <= 1e-2).all():  # written so that NaN fails it
        raise _invalid(path, "embeddings must be finite and of unit norm")
    return np.ascontiguousarray(single / lengths)


def _invalid(path: Path, problem: str) -> EvaluationError:
    return EvaluationError("world_invalid", f"{path}: {problem}.")
