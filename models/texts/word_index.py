"""Which of many texts hold some words: an inverted index in RAM, of words as names are compared by. numpy only."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from models.texts.names import joined_words

MOST_TEXTS = 1 << 16  # that hold a word; one that more of them hold tells nothing, and would take the most room
_ROW = np.uint64((1 << 32) - 1)
_HASH_BITS = np.uint64(32)
_PART = "-"  # before a part of a word with hyphens; no word begins so


class WordIndex:
    """The texts' words, immutable: 8 bytes a word and text, but for words of more than `MOST_TEXTS` texts.

    A word with hyphens counts as such and by its parts, which are told from words that stand alone: who looks for `AX`
    is not given all articles from `AX-1000` on, and who looks for `AX-1000` not all that hold `AX` and `1000`.
    It keeps 32 bits of a word's hash and no text: what it returns holds the words but for a chance of one in 4 billion
    for each word that it knows, so whoever must be sure reads the text.
    """

    def __init__(self, blocks: Iterable[Sequence[str]]) -> None:
        """Index texts, which are numbered as they come; fewer than 2^32."""
        entries, count = list[NDArray[np.uint64]](), 0
        for block in blocks:
            entries.append(_entries(block, count))
            count += len(block)
        joined = np.concatenate(entries) if entries else np.empty(0, dtype=np.uint64)
        joined.sort()
        joined = joined[np.diff(joined, prepend=joined[:1] + np.uint64(1)) != 0]  # a word twice in one text is one
        hashes = joined >> _HASH_BITS
        first = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1)))
        held_by = np.diff(first, append=len(hashes))
        frequent = held_by > MOST_TEXTS
        self._entries = joined[~np.repeat(frequent, held_by)]  # hash, then text, ascending
        self._frequent = frozenset(hashes[first[frequent]].tolist())

    @property
    def bytes(self) -> int:
        """Room that it takes."""
        return int(self._entries.nbytes)

    def holding(self, words: Sequence[str], *, in_parts: bool = False) -> NDArray[np.int64] | None:
        """Texts (n,), ascending, that hold all of some words; None where each of these is in too many to tell.

        Args:
            words: as `joined_words` tells them.
            in_parts: as `words_of` does, be they parts of words with hyphens or not.
        """
        forms = [[_hashed(word), _hashed(_PART + word)] if in_parts else [_hashed(word)] for word in set(words)]
        telling = [some for some in forms if self._frequent.isdisjoint(some)]
        if not telling:
            return None
        texts = sorted((self._of_any(some) for some in telling), key=len)
        held = texts[0]
        for others in texts[1:]:
            held = np.intersect1d(held, others, assume_unique=True)
        return held

    def _of_any(self, forms: Sequence[int]) -> NDArray[np.int64]:
        """Texts that hold a word in one of its forms, ascending."""
        first, *others = [texts for texts in map(self._of, forms) if len(texts)] or [np.empty(0, dtype=np.int64)]
        return np.unique(np.concatenate([first, *others])) if others else first

    def _of(self, hashed: int) -> NDArray[np.int64]:
        """Texts that hold a word, ascending."""
        bounds = np.array([hashed, hashed + 1], dtype=np.uint64) << _HASH_BITS
        first, last = np.searchsorted(self._entries, bounds)
        if hashed == _ROW:  # one more has no place in 64 bits
            last = len(self._entries)
        texts: NDArray[np.int64] = (self._entries[first:last] & _ROW).astype(np.int64)
        return texts


def _entries(texts: Sequence[str], base: int) -> NDArray[np.uint64]:
    """Hash and number of each word of some texts, which are numbered from `base` on."""
    words = [_with_parts(joined_words(text)) for text in texts]
    counts = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    hashes = np.fromiter(map(hash, chain.from_iterable(words)), dtype=np.int64, count=int(counts.sum()))
    numbers = np.repeat(np.arange(base, base + len(texts), dtype=np.uint64), counts)
    return (hashes.view(np.uint64) << _HASH_BITS) | numbers


def _with_parts(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words, and the parts of those with hyphens."""
    return words + tuple(_PART + part for word in words if "-" in word for part in word.split("-"))


def _hashed(word: str) -> int:
    """Of a word's hash what an entry keeps."""
    return hash(word) & int(_ROW)
