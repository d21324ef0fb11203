"""Which pairs show the same thing: what the fusion must learn to tell apart, and what it must learn to ignore.

An entity is a species, a car model, a product. Pairs of one entity are found by equal captions, by the folder in their
key, or by a list of names that captions mention. Imports nothing of ours.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

NO_ENTITY = -1
# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han. Each letter is a word of its own, so that a name
# is found wherever its letters stand in a row.
_ALONE = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u1000-\u103f\u1780-\u17d3"
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs above and below letters, of which many are no letter of their own: of Latin, Hebrew, Arabic and Indian scripts.
_SIGNS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_LETTERS = rf"(?:[^\W{_ALONE}]|[{_SIGNS}])+"
_WORD = re.compile(rf"[{_ALONE}]|{_LETTERS}(?:['\u2019-]{_LETTERS})*(?:[+#]++(?!\w))?")
_ASCII_WORD = re.compile(r"\w+(?:['-]\w+)*(?:[+#]++(?!\w))?", re.ASCII)  # the same, in half the time


def by_caption(captions: Sequence[str]) -> NDArray[np.int64]:
    """Pairs with equal captions, whatever their case and spaces: (N,) int64."""
    return _numbered([plain(caption) for caption in captions])


def by_folder(keys: Sequence[str]) -> NDArray[np.int64]:
    """Pairs whose keys lie in one folder, such as `shop/mug-blue/003`: (N,) int64."""
    return _numbered([str(PurePosixPath(key).parent) for key in keys])


def by_names(captions: Sequence[str], names: Iterable[str]) -> NDArray[np.int64]:
    """The name that each caption mentions, as whole words: (N,) int64, -1 for captions that mention none.

    Case and Unicode form do not count. Where several names occur, the longest counts: `rock wren` is no `wren`. A name
    in a script without spaces is found wherever its letters stand in a row; `C++` and `C#` are no `C`.

    Raises:
        ValueError: if there are no names.
    """
    numbers = {words: place for place, words in enumerate(sorted({_words(name) for name in names} - {()}))}
    if not numbers:
        raise ValueError("no names: a list of names has one name a line")
    lengths = sorted({len(words) for words in numbers}, reverse=True)
    return np.array([_mentioned(_words(caption), numbers, lengths) for caption in captions], dtype=np.int64)


def plain(text: str) -> str:
    """A caption or a name without what does not count in it: case, spaces and Unicode form."""
    return " ".join(_folded(text).split())


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
    return tuple(_ASCII_WORD.findall(text.lower()) if text.isascii() else _WORD.findall(_folded(text)))


def _folded(text: str) -> str:
    """Without case, letters with their accents in one; NFC, since NFKC would make a ™ part of the word before it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _numbered(labels: Sequence[str]) -> NDArray[np.int64]:
    _, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return numbers.astype(np.int64)
