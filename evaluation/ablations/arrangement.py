"""What is searched and what is fused: the paper's choice and the three others, as memories that answer accordingly.

Shapes: B queries, K neighbours, D embedding dim, N items.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.array_memory import ArrayMemory
from memory import OTHER_MODALITY, Modality, Neighbours

Which = Literal["uni", "cross"]
MOST_K = 20  # what a search remembers at least, so that a curve over k searches once


@dataclass(frozen=True)
class Arrangement:
    """For a query of one modality: the modality that is searched, and the one that is fused."""

    search: Which
    fuse: Which

    @property
    def name(self) -> str:
        return f"{self.search} search, {self.fuse} fusion"

    def keys(self, modality: Modality) -> Modality:
        """What a query of a modality is compared with."""
        return modality if self.search == "uni" else OTHER_MODALITY[modality]

    def values(self, modality: Modality) -> Modality:
        """What it gets of the items that it found."""
        return modality if self.fuse == "uni" else OTHER_MODALITY[modality]


PAPER = Arrangement("uni", "cross")
ARRANGEMENTS = (PAPER, Arrangement("uni", "uni"), Arrangement("cross", "cross"), Arrangement("cross", "uni"))


class _OnArray:
    """What does not depend on how a memory of rows in RAM is searched."""

    def __init__(self, memory: ArrayMemory) -> None:
        self._memory = memory

    @property
    def embed_dim(self) -> int:
        """D."""
        return self._memory.embed_dim

    @property
    def num_items(self) -> int:
        """N."""
        return self._memory.num_items

    @property
    def num_rows(self) -> int:
        """As in the memory."""
        return self._memory.num_rows

    def deleted_ids(self) -> NDArray[np.int64]:
        """As in the memory."""
        return self._memory.deleted_ids()

    def segments(self) -> list[dict[str, Any]]:
        """As in the memory."""
        return self._memory.segments()


class RememberedSearch(_OnArray):
    """A memory that answers the same queries once; ids, not values, are what it remembers."""

    def __init__(self, memory: ArrayMemory, arrangement: Arrangement = PAPER) -> None:
        super().__init__(memory)
        self._arrangement = arrangement
        self._answered: dict[tuple[Modality, bytes], Neighbours] = {}

    def captions(self, ids: NDArray[np.int64]) -> Sequence[str] | None:
        """Where labels look among captions; among images there are none to read."""
        return self._memory.captions(ids) if self._arrangement.keys("text") == "text" else None

    def rows(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """As texts what a label is compared with, as images what it gets of the items that it found."""
        side = self._arrangement.keys("text") if modality == "text" else self._arrangement.values("text")
        return self._memory.rows(side, ids)

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """As `ArrayMemory.search`, but for what is searched and what the values are."""
        asked = modality, hashlib.blake2b(queries.tobytes(), digest_size=16).digest()
        found = self._answered.get(asked)
        if found is None or found.ids.shape[1] < k:
            found = self._memory.search(queries, max(k, MOST_K), modality=self._arrangement.keys(modality))
            nothing = found.values[:, :0]
            found = Neighbours(found.ids, found.similarities, nothing, nothing, found.mask)
            self._answered[asked] = found
        ids, similarities, mask = found.ids[:, :k], found.similarities[:, :k], found.mask[:, :k]
        keys = np.zeros((*ids.shape, self.embed_dim), dtype=np.float32)
        values = np.zeros_like(keys)
        places = np.searchsorted(self._memory.ids, ids[mask])
        keys[mask] = self._memory.rows(self._arrangement.keys(modality))[places]
        values[mask] = self._memory.rows(self._arrangement.values(modality))[places]
        return Neighbours(ids, similarities, values, keys, mask)


class RandomNeighbours(_OnArray):
    """A memory that is never looked up: every query gets items drawn at random, most similar first."""

    def __init__(self, memory: ArrayMemory, seed: int) -> None:
        super().__init__(memory)
        self._seed = seed

    def captions(self, ids: NDArray[np.int64]) -> Sequence[str] | None:
        """None: what a caption names would be looked for."""
        return None

    def rows(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """As in the memory."""
        return self._memory.rows(modality, ids)

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """k different random items for each query (B, D), with their true similarities."""
        dice = np.random.default_rng([self._seed, modality == "image"])
        lots = dice.random((len(queries), self.num_items), dtype=np.float32)
        places = np.argpartition(lots, min(k, self.num_items - 1), axis=1)[:, :k]
        similarities = np.einsum("bd,bkd->bk", queries, self._memory.rows(modality)[places])
        order = np.argsort(-similarities, axis=1)
        places, similarities = (np.take_along_axis(part, order, axis=1) for part in (places, similarities))
        keys, values = self._memory.rows(modality)[places], self._memory.rows(OTHER_MODALITY[modality])[places]
        return Neighbours(self._memory.ids[places], similarities, values, keys, np.ones(places.shape, dtype=np.bool_))
