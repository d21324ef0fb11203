"""What labels find in a memory, where captions name them: those are theirs, whatever the encoder makes of a name.

To an encoder that never met them two names of one genus are next to equal, and so are two codes of a catalogue; their
letters are not. So more neighbours are looked through than are used, and where a caption names the label, those that
do are its neighbours, and no others. The order is still the encoder's, and a caption that is not near is not looked at:
a label is no search term. Shapes: C labels, B of them, W neighbours looked through, K used, D embedding dim.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory import Neighbours
from models.texts.names import NO_NAME, Names

LOOKED_THROUGH = 5  # times the neighbours that are used


class LabelNeighbours(NamedTuple):
    """The neighbours of some labels, and which of the labels (B,) their captions name."""

    neighbours: Neighbours
    named: NDArray[np.bool_]


class LabelCaptions:
    """The labels of a set, and where the captions of a memory are."""

    def __init__(self, labels: Sequence[str], captions: Callable[[NDArray[np.int64]], Sequence[str]]) -> None:
        """Take both.

        Args:
            labels: (C,) as they are asked, without a template; one that is no word is named by no caption.
            captions: of ids (n,) int64 of the memory, as `SearchableMemory.captions`.
        """
        self._captions = captions
        self._names = Names(labels) if any(map(_has_words, labels)) else None
        self._numbers = np.full(len(labels), NO_NAME) if self._names is None else self._names.mentioned(labels)

    def of(self, found: Neighbours, start: int, k: int) -> LabelNeighbours:
        """The k neighbours that some labels use, of those that they found.

        Args:
            found: of the labels from `start` on: the nearest W, `LOOKED_THROUGH` times k.
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
        ids, places = np.unique(found.ids[found.mask], return_inverse=True)
        mentioned = np.full(found.ids.shape, NO_NAME)
        mentioned[found.mask] = self._names.mentioned(self._captions(ids))[places]
        return np.asarray((mentioned == numbers) & (numbers != NO_NAME))


def _has_words(label: str) -> bool:
    try:
        Names([label])
    except ValueError:
        return False
    return True
