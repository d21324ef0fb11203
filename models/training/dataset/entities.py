"""Which pairs show the same thing: what the fusion must learn to tell apart, and what it must learn to ignore.

An entity is a species, a car model, a product. Pairs of one entity are found by equal captions, by the folder in their
key, or by a list of names that captions mention. Imports nothing of ours.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

NO_ENTITY = -1
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


def by_caption(captions: Sequence[str]) -> NDArray[np.int64]:
    """Pairs with equal captions, whatever their case and spaces: (N,) int64."""
    return _numbered([_plain(caption) for caption in captions])


def by_folder(keys: Sequence[str]) -> NDArray[np.int64]:
    """Pairs whose keys lie in one folder, such as `shop/mug-blue/003`: (N,) int64."""
    return _numbered([str(PurePosixPath(key).parent) for key in keys])


def by_names(captions: Sequence[str], names: Iterable[str]) -> NDArray[np.int64]:
    """The name that each caption mentions, as whole words: (N,) int64, -1 for captions that mention none.

    Where several names occur, the longest counts: `rock wren` is no `wren`.

    Raises:
        ValueError: if there are no names.
    """
    numbers = {words: place for place, words in enumerate(sorted({_words(name) for name in names} - {()}))}
    if not numbers:
        raise ValueError("no names: a list of names has one name a line")
    lengths = sorted({len(words) for words in numbers}, reverse=True)
    return np.array([_mentioned(_words(caption), numbers, lengths) for caption in captions], dtype=np.int64)


def only_repeated(entity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Entities with at least two pairs, numbered anew from 0: (N,) int64, -1 for all other pairs."""
    known = entity[entity != NO_ENTITY]
    numbers, counts = np.unique(known, return_counts=True)
    kept = numbers[counts > 1]
    place = np.searchsorted(kept, entity)
    repeated = np.isin(entity, kept)
    return np.where(repeated, place, NO_ENTITY).astype(np.int64)


def _mentioned(words: tuple[str, ...], numbers: Mapping[tuple[str, ...], int], lengths: Sequence[int]) -> int:
    """The first of the longest names among the words."""
    for length in lengths:
        for start in range(len(words) - length + 1):
            number = numbers.get(words[start : start + length])
            if number is not None:
                return number
    return NO_ENTITY


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _numbered(labels: Sequence[str]) -> NDArray[np.int64]:
    _, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return numbers.astype(np.int64)
