"""What labels find in a memory, where captions name them: those are theirs, whatever the encoder makes of a name.

To an encoder that never met them two names of one genus are next to equal, and so are two codes of a catalogue; their
letters are not. So more neighbours are looked through than are used, and where fewer than are used name the label, the
words of all captions are looked up. Where captions name the label they are its neighbours, and no others; of several
labels in a caption the longest counts, then the first. The order is still the encoder's.
Shapes: C labels, B of them, W neighbours looked through, K used, D embedding dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory import Modality, Neighbours
from models.caption_words import CaptionedMemory, CaptionWords
from models.texts.names import NO_NAME, Names, words_of

_LOOKED_THROUGH, _MOST = 5, 100  # times the neighbours that are used, but no more than so many, or than are used
_PART = 256  # labels looked up at a time: each looks through many rows
_ROWS_AT_A_TIME = 1 << 14  # of captions' embeddings: 32 MiB of 512 dimensions
_WORDS = 16  # of a label; a longer one is a sentence, which no caption repeats


class LookedUp(CaptionedMemory, Protocol):
    """What is asked of a memory that labels are looked up in; `memory.SearchableMemory` documents each member."""

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """The k nearest items of each query (B, D) of unit norm, within one modality."""

    def rows(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings (n, D) float32, unit norm, of ids: the captions', or what stands beside them."""


def looked_through(k: int) -> int:
    """How many neighbours are looked through for the k that are used."""
    return max(k, min(_LOOKED_THROUGH * k, _MOST))


class LabelNeighbours(NamedTuple):
    """The neighbours of some labels.

    Attributes:
        named: (B,) which of the labels their captions name.
        near: (B,) which of them one of the captions names that were nearest.
    """

    neighbours: Neighbours
    named: NDArray[np.bool_]
    near: NDArray[np.bool_]

    @property
    def alike(self) -> Neighbours:
        """The neighbours as a fusion takes them: those that name their label count alike.

        How similar a caption is says whether it is the label's. Where its letters say so, similarity tells only how
        many other words it has, and weighing by it throws away images: of four that name a code, all but one.
        """
        found = self.neighbours
        level = found.mask & self.named[:, None]
        return replace(found, similarities=np.where(level, found.similarities[:, :1], found.similarities))


class LabelCaptions:
    """The labels of a set, and a memory whose captions may name them."""

    def __init__(self, labels: Sequence[str], memory: LookedUp) -> None:
        """Take both.

        Args:
            labels: (C,) as they are asked, without a template; one that is no word, or of more than sixteen, is named
                by no caption. None at all where no captions are known.
            memory: that is searched.
        """
        self._labels, self._memory = labels, memory
        short = [label for label in labels if 0 < len(words_of(label)) <= _WORDS]
        self._names = Names(short) if short else None
        self._numbers = np.full(len(labels), NO_NAME) if self._names is None else self._names.mentioned(labels)
        self._numbers[[len(words_of(label)) > _WORDS for label in labels]] = NO_NAME
        self._mentioned: dict[int, int] = {}  # of each id that was read, for labels that find it, too

    def look_up(
        self,
        texts: NDArray[np.float32],
        k: int,
        *,
        part: int = _PART,
        before_part: Callable[[], None] = lambda: None,
    ) -> LabelNeighbours:
        """The k neighbours that each label of the set uses; of their captions' embeddings only the first.

        Args:
            texts: (C, D) float32, unit norm, of the labels.
            k: neighbours to be used.
            part: labels at a time.
            before_part: called before each part; whatever it raises ends the look-up.
        """
        parts = list[LabelNeighbours]()
        for start in range(0, len(texts), part):
            before_part()
            found = self._of(np.ascontiguousarray(texts[start : start + part]), start, k, before_part)
            keys = found.neighbours.keys[:, :1].copy()  # the rest takes room
            parts.append(found._replace(neighbours=replace(found.neighbours, keys=keys)))
        return _joined(parts)

    def _of(self, texts: NDArray[np.float32], start: int, k: int, before_part: Callable[[], None]) -> LabelNeighbours:
        """The k neighbours that the labels from `start` on use, (B, D) of them."""
        if self._names is None:
            none = np.zeros(len(texts), dtype=np.bool_)
            return LabelNeighbours(self._memory.search(texts, k, modality="text"), none, none)
        near = self._among_near(self._memory.search(texts, looked_through(k), modality="text"), start, k)
        numbers = self._numbers[start : start + len(texts)]
        full = near.named & near.neighbours.mask.all(axis=1)
        few = np.flatnonzero((numbers != NO_NAME) & ~full)
        if len(few):
            self._add_far(near, texts, few, start, CaptionWords.of(self._memory, before_part))
        return near

    def _among_near(self, found: Neighbours, start: int, k: int) -> LabelNeighbours:
        """The k of the neighbours (B, W) found: those that name the label, or where none does the nearest."""
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
        return LabelNeighbours(chosen, named.copy(), named)

    def _add_far(
        self, near: LabelNeighbours, texts: NDArray[np.float32], few: NDArray[np.int64], start: int, words: CaptionWords
    ) -> None:
        """Give the labels at some places, which fewer captions name than are used, those from anywhere as well."""
        holding = [words.holding(self._labels[start + place]) for place in few.tolist()]
        self._read(np.unique(np.concatenate(holding)))
        own = list[tuple[int, NDArray[np.int64]]]()
        for place, ids in zip(few.tolist(), holding, strict=True):
            number, has = self._numbers[start + place], near.neighbours.mask[place] & near.named[place]
            far = [one for one in ids.tolist() if self._mentioned[one] == number]
            every = np.union1d(np.array(far, dtype=np.int64), near.neighbours.ids[place][has])
            if len(every) > has.sum():
                own.append((place, every))
                near.named[place] = True
            if sum(len(one) for _, one in own) > _ROWS_AT_A_TIME:
                self._fill(near.neighbours, texts, own)
                own.clear()
        self._fill(near.neighbours, texts, own)

    def _fill(
        self, found: Neighbours, texts: NDArray[np.float32], own: Sequence[tuple[int, NDArray[np.int64]]]
    ) -> None:
        """Give labels, by their place, the nearest of their own pairs, ids ascending."""
        if not own:
            return
        every = np.unique(np.concatenate([ids for _, ids in own]))
        keys = self._memory.rows("text", every)  # at once: elsewhere than on a disk of ours each call is a journey
        width = found.ids.shape[1]
        best: list[tuple[int, NDArray[np.int64]]] = []
        for place, ids in own:
            mine = keys[np.searchsorted(every, ids)]
            similarities = (mine.astype(np.float64) @ texts[place]).astype(np.float32)
            order = np.argsort(-similarities, kind="stable")[:width]
            used = slice(0, len(order))
            for column, nothing in ((found.ids, -1), (found.similarities, 0), (found.values, 0), (found.keys, 0)):
                column[place] = nothing
            found.mask[place] = np.arange(width) < len(order)
            found.ids[place, used], found.similarities[place, used] = ids[order], similarities[order]
            found.keys[place, used] = mine[order]
            best.append((place, ids[order]))
        every = np.unique(np.concatenate([ids for _, ids in best]))
        values = self._memory.rows("image", every)
        for place, ids in best:
            found.values[place, : len(ids)] = values[np.searchsorted(every, ids)]

    def _own(self, found: Neighbours, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the neighbours (B, W) have a caption that names the label that found them."""
        wanted = found.ids[found.mask]
        self._read(np.unique(wanted))
        mentioned = np.full(found.ids.shape, NO_NAME)
        mentioned[found.mask] = [self._mentioned[one] for one in wanted.tolist()]
        return np.asarray((mentioned == numbers) & (numbers != NO_NAME))

    def _read(self, ids: NDArray[np.int64]) -> None:
        """Read the captions of some distinct ids that were not read before."""
        unread = np.array([one for one in ids.tolist() if one not in self._mentioned], dtype=np.int64)
        if len(unread):
            assert self._names is not None, "without names no caption is read"
            mentioned = self._names.mentioned(self._memory.captions(unread) or [])
            self._mentioned.update(zip(unread.tolist(), mentioned.tolist(), strict=True))


def _joined(parts: Sequence[LabelNeighbours]) -> LabelNeighbours:
    """What several parts of a set found, as what the set found."""
    columns = ([getattr(part.neighbours, one.name) for part in parts] for one in fields(Neighbours))
    marks = (np.concatenate([getattr(part, name) for part in parts]) for name in ("named", "near"))
    return LabelNeighbours(Neighbours(*map(np.concatenate, columns)), *marks)
