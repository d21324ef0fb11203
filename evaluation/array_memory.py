"""A memory of rows in RAM, searched like `memory.Memory`: for subsets, controls and curves that are not worth a file.

The candidates come from a blocked matrix product; the memory room's own search scores them again, proves that none is
missing and breaks ties, so both kinds of memory rank alike. Imports memory, numpy and torch.
Shapes: B queries, K neighbours, D embedding dim, N rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from memory import MODALITIES, OTHER_MODALITY, Modality, Neighbours, SearchableMemory
from memory.searchable import QUERY_NORM_TOLERANCE, check_queries
from memory.searching.exact_search import ExactSearch, ShardSearch
from memory.searching.ranking import MISSING
from models.label_captions import LookedUp

Captions = Callable[[NDArray[np.int64]], Sequence[str]]
_BLOCK_ELEMENTS = 1 << 24  # float32 similarities at a time: 64 MiB


class SearchesNeighbours(LookedUp, Protocol):
    """What the evaluation asks of a memory; `memory.Memory` and `ArrayMemory` satisfy it."""

    @property
    def embed_dim(self) -> int:
        """D."""

    @property
    def num_items(self) -> int:
        """Items a search can return."""


class ArrayMemory:
    """N pairs in RAM, immutable; `subset` and `without` give smaller ones whose ids stay those of the whole.

    Attributes:
        ids: (N,) int64, ascending; what a search returns.
    """

    def __init__(
        self,
        image: NDArray[np.floating],
        text: NDArray[np.floating],
        ids: ArrayLike | None = None,
        captions: Captions | None = None,
    ) -> None:
        """Take the rows, normalised again in float32.

        Args:
            image: (N, D) of any float type, unit norm; row i belongs to row i of `text`. N may be 0.
            text: (N, D), as `image`.
            ids: (N,) ascending; 0 to N - 1 by default.
            captions: of ids, if they are known.

        Raises:
            ValueError: shapes that do not fit together, ids not ascending, rows not finite or far from unit norm.
        """
        if image.ndim != 2 or image.shape != text.shape:
            raise ValueError(f"image rows {list(image.shape)} and text rows {list(text.shape)} are not both (N, D)")
        self.ids = np.arange(len(image), dtype=np.int64) if ids is None else np.array(ids, dtype=np.int64)
        if self.ids.shape != (len(image),) or (np.diff(self.ids) <= 0).any():
            raise ValueError("ids must be ascending, and one for each row")
        rows: dict[Modality, NDArray[np.float32]] = {"image": _unit_norm(image), "text": _unit_norm(text)}
        self._rows, self._captions = rows, captions

    @classmethod
    def from_memory(cls, memory: SearchableMemory) -> "ArrayMemory":
        """All items of a memory that a search can return, under their ids.

        Its similarities are those of rows normalised again, so they may differ from the memory's by an fp16 rounding.
        """
        alive = np.setdiff1d(np.arange(memory.num_rows), memory.deleted_ids())
        rows = {one: _unit_norm(memory.rows(one, alive)) for one in MODALITIES}  # one by one: each is there twice
        return cls._made(alive, rows, memory.captions)

    @classmethod
    def _made(
        cls, ids: NDArray[np.int64], rows: dict[Modality, NDArray[np.float32]], captions: Captions | None
    ) -> "ArrayMemory":
        """Of rows that were normalised: not once more, so that a row stays the same, bit for bit."""
        made = cls.__new__(cls)
        made.ids, made._rows, made._captions = ids, rows, captions
        return made

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self._rows["image"].shape[1])

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def num_rows(self) -> int:
        """Ids run from 0 to this number, those of no row included."""
        return int(self.ids[-1]) + 1 if len(self.ids) else 0

    def deleted_ids(self) -> NDArray[np.int64]:
        """Ids of no row, ascending."""
        return np.setdiff1d(np.arange(self.num_rows), self.ids, assume_unique=True)

    def segments(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def rows(self, modality: Modality, ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """(N, D) float32, unit norm, of ids that are here, or all in the order of `ids`; not to be written to."""
        return self._rows[modality] if ids is None else self._rows[modality][np.searchsorted(self.ids, ids)]

    def subset(self, positions: ArrayLike) -> "ArrayMemory":
        """The rows at some positions (not ids), or where a mask (N,) is True; order and repeats do not matter."""
        chosen = np.zeros(self.num_items, dtype=np.bool_)
        chosen[np.asarray(positions)] = True
        rows = {modality: self._rows[modality][chosen] for modality in MODALITIES}
        return ArrayMemory._made(self.ids[chosen], rows, self._captions)

    def captions(self, ids: NDArray[np.int64]) -> Sequence[str] | None:
        """Captions of some ids; None where none are known."""
        return None if self._captions is None else self._captions(ids)

    def without(self, ids: ArrayLike) -> "ArrayMemory":
        """All rows but those of some ids; an id that is not here is no error."""
        return self.subset(~np.isin(self.ids, np.asarray(ids)))

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """Find the k nearest rows for each query, within one modality; exact.

        Args:
            queries: (B, D) float32, unit norm, of `modality`.
            k: neighbours per query; fewer come back as id -1 with mask False.

        Returns:
            Neighbours by similarity descending, then id ascending; `values` are of the other modality.

        Raises:
            QueryShapeError: if D differs, k is negative or the modality unknown.
            QueryValueError: if a query is not finite or not unit norm.
        """
        queries = check_queries(queries, k, modality, embed_dim=self.embed_dim)
        shard = ShardSearch(
            _ProductIndex(self._rows[modality]),
            self._rows[modality],  # type: ignore[arg-type]  # it scores in float64, whatever the rows are
            base_row=0,
            deleted=np.empty(0, dtype=np.int64),
        )
        positions, similarities = ExactSearch((shard,)).search(queries, k)
        mask = positions != MISSING
        keys = np.zeros((*positions.shape, self.embed_dim), dtype=np.float32)
        values = np.zeros_like(keys)
        keys[mask] = self._rows[modality][positions[mask]]
        values[mask] = self._rows[OTHER_MODALITY[modality]][positions[mask]]
        ids = np.full(positions.shape, MISSING)
        ids[mask] = self.ids[positions[mask]]
        return Neighbours(ids, np.where(mask, similarities, np.float32(0)), values, keys, mask)


class _ProductIndex:
    """The two calls of a FAISS index that `ShardSearch` makes, by a matrix product."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = torch.from_numpy(rows)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and positions (B, k), most similar first, as float32 arithmetic has them."""
        similarities = np.empty((len(queries), k), dtype=np.float32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        step = max(1, _BLOCK_ELEMENTS // max(1, len(self._rows)))
        for start in range(0, len(queries), step):
            best = (torch.from_numpy(queries[start : start + step]) @ self._rows.T).topk(k, dim=1)
            similarities[start : start + step] = best.values.numpy()
            positions[start : start + step] = best.indices.numpy()
        return similarities, positions

    def range_search(
        self, queries: NDArray[np.float32], radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Limits, similarities and positions of all rows above `radius`, for one query (1, D)."""
        similarities = (torch.from_numpy(queries) @ self._rows.T).numpy()[0]
        positions = np.flatnonzero(similarities > radius)
        return np.array([0, len(positions)]), similarities[positions], positions


def _unit_norm(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    single = np.array(rows, dtype=np.float32, order="C")  # a copy: the caller's array may change
    norms = np.linalg.norm(single, axis=1, keepdims=True)
    if not (np.abs(norms - 1) <= QUERY_NORM_TOLERANCE).all():
        raise ValueError("rows must be finite and of unit norm; normalise embeddings first")
    single /= norms
    return single
