"""Which pairs of a memory have captions that may name a label, however far they are from it: found by their words.

Made when a label set first needs it, once for each version of a memory: some seconds and 8 bytes a word, up to 80 MB
for a million captions of ten. Segments never change, so versions that have some in common share their words.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from models.texts.names import joined_words, words_of
from models.texts.word_index import WordIndex

logger = logging.getLogger("reco.caption_words")

MOST_PAIRS: Final = 4_000_000  # of a memory; above, the words would take seconds and RAM that nobody asked for
MOST_OF_A_LABEL: Final = 1_000  # captions that are read for a label; of more, as many evenly
_PART = 1 << 17  # captions in one index: half a second
_BLOCK = 1 << 14  # captions read at a time


class CaptionedMemory(Protocol):
    """What is asked of a memory; `memory.SearchableMemory` documents each member."""

    @property
    def num_rows(self) -> int:
        """Ids run from 0 to this number."""

    def captions(self, ids: NDArray[np.int64]) -> Sequence[str] | None:
        """Captions of ids; None where none are known."""

    def deleted_ids(self) -> NDArray[np.int64]:
        """Ids no search returns, ascending."""

    def segments(self) -> list[dict[str, Any]]:
        """`id` and `rows` of each segment; none where there are no such."""


class _Part(NamedTuple):
    """The words of the captions of consecutive ids, from `base` on."""

    base: int
    words: WordIndex


_listed = threading.Lock()  # held for no longer than a look
_of_memories: WeakKeyDictionary[CaptionedMemory, "CaptionWords"] = WeakKeyDictionary()
_of_segments: WeakValueDictionary[tuple[str, int, int], WordIndex] = WeakValueDictionary()
_latest: list["CaptionWords"] = []  # kept, for its memory may be closed before the next version of it is asked


class CaptionWords:
    """The words of a version's captions, made part by part. It does not keep the memory, which keeps it."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._parts: list[_Part] = []
        self._deleted = np.empty(0, dtype=np.int64)
        self._making = threading.Lock()
        self._whole = False

    @classmethod
    def of(cls, memory: CaptionedMemory, before_part: Callable[[], None] = lambda: None) -> "CaptionWords":
        """Those of a memory, made when they are first asked for; none of one with more than `MOST_PAIRS`.

        Args:
            memory: whose captions they are.
            before_part: called before each part is made; whatever it raises ends that, and the next who asks goes on.

        Raises:
            MemoryStoreError: the captions cannot be read.
        """
        with _listed:
            words = _of_memories.setdefault(memory, cls())
        if not words._whole:
            with words._making:
                words._make(memory, before_part)
            with _listed:
                _latest[:] = [words]
        return words

    def holding(self, label: str) -> NDArray[np.int64]:
        """Ids (n,), ascending, of pairs whose captions hold all words of a label, be it in another order.

        At most `MOST_OF_A_LABEL`, evenly chosen, those first that have its hyphens where it has them; none where each
        of its words is in too many captions to tell.
        """
        to_the_hyphen, words = self._holding(joined_words(label)), words_of(label)
        if len(words) < 2:
            return _some_of(to_the_hyphen, MOST_OF_A_LABEL)
        others = np.setdiff1d(self._holding(words, in_parts=True), to_the_hyphen, assume_unique=True)
        first = _some_of(to_the_hyphen, MOST_OF_A_LABEL)
        return np.union1d(first, _some_of(others, MOST_OF_A_LABEL - len(first)))

    def _holding(self, words: Sequence[str], *, in_parts: bool = False) -> NDArray[np.int64]:
        """Ids (n,), ascending, as `WordIndex.holding`, of all parts."""
        found = [np.empty(0, dtype=np.int64)]
        for part in self._parts:
            held = part.words.holding(words, in_parts=in_parts)
            if held is not None:
                found.append(held + part.base)
        return np.setdiff1d(np.concatenate(found), self._deleted, assume_unique=True)

    def _make(self, memory: CaptionedMemory, before_part: Callable[[], None]) -> None:
        """Make the parts that are not made."""
        if self._whole:
            return
        if memory.num_rows > MOST_PAIRS:
            logger.info("captions that name a label are looked for near it only: more than %d pairs", MOST_PAIRS)
        else:
            for place, (segment, base, start, end) in enumerate(_pieces(memory)):
                if place < len(self._parts):
                    continue
                before_part()
                named = None if segment is None else (segment, start - base, end - base)
                words = None if named is None else _of_segments.get(named)
                if words is None:
                    words = _index(memory, start, end)
                    if named is not None:
                        _of_segments[named] = words
                self._parts.append(_Part(start, words))
        self._deleted = memory.deleted_ids()
        self._whole = True


def _some_of(ids: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """So many of them, evenly, or all."""
    return ids if len(ids) <= most else ids[np.linspace(0, len(ids) - 1, most).astype(np.int64)]


def _pieces(memory: CaptionedMemory) -> Iterator[tuple[str | None, int, int, int]]:
    """Segment and its first id, and first and last id of each part."""
    base = 0
    for segment in memory.segments() or [{"id": None, "rows": memory.num_rows}]:
        end = base + int(segment["rows"])
        for start in range(base, end, _PART):
            yield segment["id"], base, start, min(start + _PART, end)
        base = end


def _index(memory: CaptionedMemory, start: int, end: int) -> WordIndex:
    ids = np.arange(start, end)
    return WordIndex(memory.captions(ids[begin : begin + _BLOCK]) or [] for begin in range(0, len(ids), _BLOCK))
