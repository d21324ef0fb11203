"""Test images that lie in the memory: a leak that flatters every refined figure, so it is counted and can be masked.

Shapes: B queries, K neighbours, D embedding dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.array_memory import SearchesNeighbours
from memory import COSINE_ROUNDING, MODALITIES, Modality, Neighbours

_BATCH = 1024
_FIRST_K = 16
_LENGTHS = 2.0**-11  # by how much rows in fp16 may be longer or shorter than 1, and similarities with them


@dataclass(frozen=True)
class Duplicates:
    """Near-copies of test images in a memory.

    Attributes:
        cosine: from which on two images count as copies.
        item_ids: (n,) int64, ascending: items that copy at least one test image.
        images: how many test images have a copy.
    """

    cosine: float
    item_ids: NDArray[np.int64]
    images: int


def near_duplicates(images: NDArray[np.float32], memory: SearchesNeighbours, cosine: float) -> Duplicates:
    """Find all items whose image embedding has a cosine of at least `cosine` to one of `images` (B, D).

    As `memory.NearDuplicates` does: what only rounding put below it counts.
    """
    items = set[int]()
    affected, k, pending = 0, min(_FIRST_K, memory.num_items), np.arange(len(images))
    while pending.size:
        full = []
        step = max(1, _BATCH * _FIRST_K // k)  # a search returns (B, K, D) values: keep B * K as it is
        for start in range(0, len(pending), step):
            rows = pending[start : start + step]
            found = memory.search(np.ascontiguousarray(images[rows]), k, modality="image")
            copies = found.mask & (_cosines(images[rows], found.keys) >= cosine - COSINE_ROUNDING)
            items.update(found.ids[copies].tolist())
            affected += int(copies.any(axis=1).sum()) if k <= _FIRST_K else 0
            # There may be more behind the last: look further.
            full.append(rows[found.mask[:, -1] & (found.similarities[:, -1] >= cosine - _LENGTHS)])
        pending = np.concatenate(full) if k < memory.num_items else np.empty(0, dtype=np.int64)
        k = min(4 * k, memory.num_items)
    return Duplicates(cosine, np.array(sorted(items), dtype=np.int64), affected)


def _cosines(queries: NDArray[np.float32], keys: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, K) with the keys (B, K, D) at unit length, which rows in fp16 lack by a little; 0 with none."""
    lengths = np.maximum(np.linalg.norm(keys, axis=-1), np.float32(1e-6))
    cosines: NDArray[np.float32] = np.einsum("bd,bkd->bk", queries, keys) / lengths
    return cosines


class LeavingOut:
    """A memory as if some of its items were not there; the similarities and the order are its own."""

    def __init__(self, memory: SearchesNeighbours, ids: ArrayLike) -> None:
        """Hide the items with these ids."""
        self._memory = memory
        self._hidden = np.unique(np.asarray(ids, dtype=np.int64))

    @property
    def embed_dim(self) -> int:
        """D."""
        return self._memory.embed_dim

    @property
    def num_items(self) -> int:
        """Items a search can return."""
        return self._memory.num_items - len(self._hidden)

    @property
    def num_rows(self) -> int:
        """As in the memory."""
        return self._memory.num_rows

    def captions(self, ids: NDArray[np.int64]) -> Sequence[str] | None:
        """As in the memory."""
        return self._memory.captions(ids)

    def rows(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """As in the memory."""
        return self._memory.rows(modality, ids)

    def segments(self) -> list[dict[str, Any]]:
        """As in the memory."""
        return self._memory.segments()

    def deleted_ids(self) -> NDArray[np.int64]:
        """Those of the memory, and those that are hidden."""
        return np.union1d(self._memory.deleted_ids(), self._hidden)

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """As in the memory: hidden items are searched past and dropped."""
        assert modality in MODALITIES, f"modality {modality!r} is neither 'image' nor 'text'"
        count, fetch = len(queries), k
        ids = np.full((count, k), -1, dtype=np.int64)
        similarities = np.zeros((count, k), dtype=np.float32)
        values = np.zeros((count, k, self.embed_dim), dtype=np.float32)
        keys, mask = np.zeros_like(values), np.zeros((count, k), dtype=np.bool_)
        pending = np.arange(count if k else 0)
        while pending.size:
            # Only those go on that have not found enough; B * K stays as it is, for a search returns (B, K, D) values.
            fetch = min(self._memory.num_items, 2 * fetch)
            step, short = max(1, _BATCH * _FIRST_K // max(1, fetch)), []
            for start in range(0, len(pending), step):
                rows = pending[start : start + step]
                found = self._memory.search(np.ascontiguousarray(queries[rows]), fetch, modality=modality)
                kept = found.mask & ~np.isin(found.ids, self._hidden)
                order = np.argsort(~kept, axis=1, kind="stable")[:, :k]  # the kept first, in their order
                wide = order.shape[1]  # k beyond all items: the mask ends earlier
                mask[rows, :wide] = real = np.take_along_axis(kept, order, axis=1)
                ids[rows, :wide] = np.where(real, np.take_along_axis(found.ids, order, axis=1), -1)
                similarities[rows, :wide] = np.take_along_axis(found.similarities, order, axis=1) * real
                values[rows, :wide] = np.take_along_axis(found.values, order[..., None], axis=1) * real[..., None]
                keys[rows, :wide] = np.take_along_axis(found.keys, order[..., None], axis=1) * real[..., None]
                short.append(rows[~real.all(axis=1) | (wide < k)])
            pending = np.concatenate(short) if fetch < self._memory.num_items else np.empty(0, dtype=np.int64)
        return Neighbours(ids=ids, similarities=similarities, values=values, keys=keys, mask=mask)
