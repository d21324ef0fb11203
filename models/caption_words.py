"""Which pairs of a memory have captions that may name a label, however far they are from it: found by their words.

Made when a label set first needs it, once for each version of a memory: some seconds and up to 80 MB for a million
captions. Segments never change, so a version that has some in common with the one before it shares their words.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from models.texts.names import words_of
from models.texts.word_index import WordIndex

logger = logging.getLogger("reco.caption_words")

MOST_PAIRS: Final = 4_000_000  # of a memory; above, the words would take seconds and RAM that nobody asked for
MOST_OF_A_LABEL: Final = 1_000  # captions that are read for a label; of more, as many evenly
_PART = 1 << 20  # captions in one index
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


_making = threading.Lock()
_of_memories: WeakKeyDictionary[CaptionedMemory, "CaptionWords"] = WeakKeyDictionary()
_of_segments: WeakValueDictionary[tuple[str, int], WordIndex] = WeakValueDictionary()
_latest: list["CaptionWords"] = []  # kept, for its memory may be closed before the next version of it is asked


class CaptionWords:
    """The words of a version's captions. It does not keep the memory, which keeps it."""

    def __init__(self, parts: Sequence[_Part], deleted: NDArray[np.int64]) -> None:
        """Take the parts in order of their ids, and the ids that no search returns."""
        self._parts, self._deleted = tuple(parts), deleted

    @classmethod
    def of(cls, memory: CaptionedMemory) -> "CaptionWords":
        """Those of a memory, made when they are first asked for; none of one with more than `MOST_PAIRS`.

        Raises:
            MemoryStoreError: the captions cannot be read.
        """
        with _making:
            words = _of_memories.get(memory)
            if words is None:
                words = _of_memories[memory] = cls(_parts(memory), memory.deleted_ids())
                _latest[:] = [words]
            return words

    def holding(self, label: str) -> NDArray[np.int64]:
        """Ids (n,), ascending, of pairs whose captions hold all words of a label, be it in another order.

        At most `MOST_OF_A_LABEL`, evenly chosen, and none where each of its words is in too many captions to tell.
        """
        wanted, found = words_of(label), [np.empty(0, dtype=np.int64)]
        for part in self._parts:
            held = part.words.holding(wanted)
            if held is not None:
                found.append(held + part.base)
        ids = np.setdiff1d(np.concatenate(found), self._deleted, assume_unique=True)
        if len(ids) <= MOST_OF_A_LABEL:
            return ids
        return ids[np.linspace(0, len(ids) - 1, MOST_OF_A_LABEL).astype(np.int64)]


def _parts(memory: CaptionedMemory) -> list[_Part]:
    if memory.num_rows > MOST_PAIRS:
        logger.info("captions that name a label are looked for near it only: more than %d pairs", MOST_PAIRS)
        return []
    parts, base = list[_Part](), 0
    for segment in memory.segments() or [{"id": None, "rows": memory.num_rows}]:
        end = base + int(segment["rows"])
        for start in range(base, end, _PART):
            named = (segment["id"], start - base)
            words = None if segment["id"] is None else _of_segments.get(named)
            if words is None:
                words = _index(memory, start, min(start + _PART, end))
                if segment["id"] is not None:
                    _of_segments[named] = words
            parts.append(_Part(start, words))
        base = end
    return parts


def _index(memory: CaptionedMemory, start: int, end: int) -> WordIndex:
    ids = np.arange(start, end)
    return WordIndex(memory.captions(ids[begin : begin + _BLOCK]) or [] for begin in range(0, len(ids), _BLOCK))
