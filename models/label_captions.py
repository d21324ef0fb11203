"""What labels find in a memory, where captions name them: those are theirs, whatever the encoder makes of a name.

To an encoder that never met them two names of one genus are next to equal, and so are two codes of a catalogue; their
letters are not. So more neighbours are looked through than are used, and where a caption names the label, those that
do are its neighbours, and no others; of several labels in a caption the longest counts, then the first. The order is
still the encoder's, and a caption that is not near is not looked at: a label is no search term.
Shapes: C labels, B of them, W neighbours looked through, K used, D embedding dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory import Neighbours
from models.texts.names import NO_NAME, Names, words_of

_LOOKED_THROUGH, _MOST = 5, 100  # times the neighbours that are used, but no more than so many, or than are used
_PART = 256  # labels looked up at a time: each looks through many rows
_WORDS = 16  # of a label; a longer one is a sentence, which no caption repeats


Search = Callable[[NDArray[np.float32], int], Neighbours]  # (B, D) texts, and how many captions each


def looked_through(k: int) -> int:
    """How many neighbours are looked through for the k that are used."""
    return max(k, min(_LOOKED_THROUGH * k, _MOST))


class LabelNeighbours(NamedTuple):
    """The neighbours of some labels, and which of the labels (B,) their captions name."""

    neighbours: Neighbours
    named: NDArray[np.bool_]


class LabelCaptions:
    """The labels of a set, and where the captions of a memory are."""

    def __init__(self, labels: Sequence[str], captions: Callable[[NDArray[np.int64]], Sequence[str]]) -> None:
        """Take both.

        Args:
            labels: (C,) as they are asked, without a template; one that is no word, or of more than sixteen, is named
                by no caption.
            captions: of ids (n,) int64 of the memory, as `SearchableMemory.captions`.
        """
        self._captions = captions
        short = [label for label in labels if 0 < len(words_of(label)) <= _WORDS]
        self._names = Names(short) if short else None
        self._numbers = np.full(len(labels), NO_NAME) if self._names is None else self._names.mentioned(labels)
        self._numbers[[len(words_of(label)) > _WORDS for label in labels]] = NO_NAME
        self._mentioned: dict[int, int] = {}  # of each id that was read, for labels that find it, too

    def look_up(
        self,
        texts: NDArray[np.float32],
        search: Search,
        k: int,
        *,
        part: int = _PART,
        before_part: Callable[[], None] = lambda: None,
    ) -> LabelNeighbours:
        """The k neighbours that each label of the set uses; of their captions' embeddings only the first.

        Args:
            texts: (C, D) float32, unit norm, of the labels.
            search: within the captions of the memory.
            k: neighbours to be used.
            part: labels at a time.
            before_part: called before each part; whatever it raises ends the look-up.
        """
        width, parts = k if self._names is None else looked_through(k), list[LabelNeighbours]()
        for start in range(0, len(texts), part):
            before_part()
            found, named = self.of(search(np.ascontiguousarray(texts[start : start + part]), width), start, k)
            parts.append(LabelNeighbours(replace(found, keys=found.keys[:, :1].copy()), named))  # the rest takes room
        return _joined(parts)

    def of(self, found: Neighbours, start: int, k: int) -> LabelNeighbours:
        """The k neighbours that some labels use, of those that they found.

        Args:
            found: of the labels from `start` on: the nearest W, as many as `looked_through`.
            start: place of the first of them.
            k: neighbours to be used; the result is as wide, or as wide as what was found.
        """
        own = self._own(found, self._numbers[start : start + len(found.ids), None])  # (B, W)
        named = np.asarray(own.any(axis=1))
        used = np.where(named[:, None], own, found.mask)
        order = np.argsort(~used, axis=1, kind="stable")[:, :k]  # (B, K)
        mask = np.take_along_axis(used, order, axis=1)
        chosen = Neighbours(
            ids=np.where(mask, np.take_along_axis(found.ids, order, axis=1), -1),
            similarities=np.take_along_axis(found.similarities, order, axis=1) * mask,
            values=np.take_along_axis(found.values, order[..., None], axis=1) * mask[..., None],
            keys=np.take_along_axis(found.keys, order[..., None], axis=1) * mask[..., None],
            mask=mask,
        )
        return LabelNeighbours(chosen, named)

    def _own(self, found: Neighbours, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the neighbours (B, W) have a caption that names the label that found them."""
        if self._names is None or not found.mask.any():
            return np.zeros_like(found.mask)
        known, wanted = self._mentioned, found.ids[found.mask]
        unread = np.array([one for one in np.unique(wanted).tolist() if one not in known], dtype=np.int64)
        if len(unread):
            known.update(zip(unread.tolist(), self._names.mentioned(self._captions(unread)).tolist(), strict=True))
        mentioned = np.full(found.ids.shape, NO_NAME)
        mentioned[found.mask] = [known[one] for one in wanted.tolist()]
        return np.asarray((mentioned == numbers) & (numbers != NO_NAME))


def _joined(parts: Sequence[LabelNeighbours]) -> LabelNeighbours:
    """What several parts of a set found, as what the set found."""
    columns = ([getattr(part.neighbours, one.name) for part in parts] for one in fields(Neighbours))
    return LabelNeighbours(Neighbours(*map(np.concatenate, columns)), np.concatenate([part.named for part in parts]))
