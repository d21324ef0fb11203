"""Training pairs with their neighbours: searched once, before training, never in the loop.

Shapes: N pairs, M candidates each, K neighbours drawn of them, D embedding dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memory import MODALITIES, Memory, Modality
from models.training.entity_pairs import EntityPairs

SEARCH_BATCH = 1024


@dataclass(frozen=True)
class Candidates:
    """What a pair may retrieve: `rows` (N, M) int64 of the memory, -1 for none, and `similarities` (N, M) float32."""

    rows: Tensor
    similarities: Tensor


@dataclass(frozen=True)
class Batch:
    """One side of a training batch, as a fusion module takes it: (B, D), (B, K, D), (B, K), (B, K)."""

    query: Tensor
    values: Tensor
    similarities: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of a memory as training queries, with the candidates that are not the pair itself.

    Attributes:
        image, text: (N, D) float32, unit norm, of the pairs.
        memory_image, memory_text: (rows, D) float32, unit norm, of the whole memory.
        candidates: of each side, found within its own modality, most similar first.
        caption_group: (N,) int64; pairs with equal numbers, such as those with equal captions, belong together.
    """

    image: Tensor
    text: Tensor
    memory_image: Tensor
    memory_text: Tensor
    candidates: dict[Modality, Candidates]
    caption_group: Tensor

    @classmethod
    def from_memory(cls, memory: Memory, ids: NDArray[np.int64], num_candidates: int = 64) -> "TrainingPairs":
        """Use pairs of the memory itself as training queries.

        A pair never retrieves itself nor an item with the same image bytes: either would leak the answer. Other
        images that share the caption are legitimate knowledge.

        Args:
            memory: where the pairs lie and where they search.
            ids: (N,) of the pairs to train on.
            num_candidates: M, kept for each pair; k neighbours are drawn of them in each epoch.
        """
        rows = {modality: memory.rows(modality) for modality in MODALITIES}
        hashes = _group(memory.content_hashes())
        captions = _group(memory.captions())
        candidates = {
            modality: _search(memory, modality, rows[modality], ids, hashes, num_candidates) for modality in MODALITIES
        }
        return cls(
            image=torch.from_numpy(rows["image"][ids]),
            text=torch.from_numpy(rows["text"][ids]),
            memory_image=torch.from_numpy(rows["image"]),
            memory_text=torch.from_numpy(rows["text"]),
            candidates=candidates,
            caption_group=torch.from_numpy(captions[ids]),
        )

    @classmethod
    def from_entities(cls, pairs: EntityPairs, num_candidates: int = 64) -> "TrainingPairs":
        """Use pairs of entities as training queries and as the memory; what shows one entity belongs together.

        Args:
            pairs: without copies of an image (`EntityPairs.sample`); a pair never retrieves itself.
        """
        candidates: dict[Modality, Candidates] = {}
        for modality, keys in zip(MODALITIES, (pairs.image, pairs.text), strict=True):
            found = [
                (block @ keys.T).scatter(1, rows.unsqueeze(1), -torch.inf).topk(min(num_candidates, len(keys) - 1))
                for rows, block in zip(
                    torch.arange(len(keys)).split(SEARCH_BATCH), keys.split(SEARCH_BATCH), strict=True
                )
            ]
            similarities, rows = (torch.cat(part) for part in zip(*found, strict=True))
            candidates[modality] = Candidates(rows, similarities)
        return cls(pairs.image, pairs.text, pairs.image, pairs.text, candidates, pairs.entity)

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, modality: Modality, pairs: Tensor, chosen: Tensor, mask: Tensor) -> Batch:
        """One side of a batch.

        Args:
            pairs: (B,) which pairs.
            chosen: (B, K) int64, which of their candidates.
            mask: (B, K) bool, which of the chosen count.
        """
        queries, values = (self.image, self.memory_text) if modality == "image" else (self.text, self.memory_image)
        found = self.candidates[modality]
        rows = found.rows[pairs].gather(1, chosen)  # (B, K)
        mask = mask & (rows >= 0)
        similarities = found.similarities[pairs].gather(1, chosen) * mask
        return Batch(queries[pairs], values[rows.clamp(min=0)] * mask.unsqueeze(-1), similarities, mask)

    def positives(self, pairs: Tensor) -> Tensor:
        """(B, B) bool: which images and texts of the batch belong together."""
        group = self.caption_group[pairs]
        return group.unsqueeze(0) == group.unsqueeze(1)


def _search(
    memory: Memory,
    modality: Modality,
    rows: NDArray[np.float32],
    ids: NDArray[np.int64],
    hashes: NDArray[np.int64],
    num_candidates: int,
) -> Candidates:
    """The nearest `num_candidates` items of each pair that are not the pair itself or a copy of its image."""
    found_rows = np.full((len(ids), num_candidates), -1, dtype=np.int64)
    found_similarities = np.zeros((len(ids), num_candidates), dtype=np.float32)
    extra = 1 + int(np.bincount(hashes).max())  # enough to fill up when every copy was left out
    for start in range(0, len(ids), SEARCH_BATCH):
        own = ids[start : start + SEARCH_BATCH]
        found = memory.search(rows[own], min(num_candidates + extra, len(rows)), modality=modality)
        allowed = found.mask & (hashes[found.ids] != hashes[own][:, None])
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :num_candidates]  # the allowed first, in order
        kept = np.take_along_axis(allowed, order, axis=1)
        width = order.shape[1]
        block = slice(start, start + len(own))
        found_rows[block, :width] = np.where(kept, np.take_along_axis(found.ids, order, axis=1), -1)
        found_similarities[block, :width] = np.where(kept, np.take_along_axis(found.similarities, order, axis=1), 0)
    return Candidates(torch.from_numpy(found_rows), torch.from_numpy(found_similarities))


def _group(labels: Sequence[str]) -> NDArray[np.int64]:
    """Number equal labels alike: (N,) int64."""
    _, groups = np.unique(np.asarray(labels), return_inverse=True)
    return groups.astype(np.int64)
