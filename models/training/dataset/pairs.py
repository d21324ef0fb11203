"""Training pairs with their neighbours: searched once, before training, never in the loop.

Shapes: N pairs, M candidates each, K neighbours drawn of them, R rows of the memory, D embedding dim.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memory import MODALITIES, OTHER_MODALITY, Modality, SearchableMemory
from models.training.dataset.candidate_store import Candidates
from models.training.dataset.candidates import find_candidates
from models.training.dataset.draws import MemoryShare, NameNoise
from models.training.dataset.embedding_rows import EmbeddingRows, ResidentRows, open_rows
from models.training.dataset.entity_pairs import EntityPairs
from models.training.dataset.exclusion import SearchSettings
from models.training.dataset.groups import number_alike

_ENTITY_BLOCK = 1024


@dataclass(frozen=True)
class Batch:
    """One side of a training batch, as a fusion module takes it: (B, D), (B, K, D), (B, K), (B, K)."""

    query: Tensor
    values: Tensor
    similarities: Tensor
    mask: Tensor

    def to(self, device: str) -> "Batch":
        """On another device."""
        return Batch(*(part.to(device) for part in (self.query, self.values, self.similarities, self.mask)))


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of a memory as training queries, with the candidates that are not the pair itself.

    Attributes:
        ids: (N,) int64, the row of each pair in the memory.
        rows: of each modality, the embeddings (R, D) of the whole memory.
        candidates: of each side, found within its own modality, most similar first.
        group: (R,) int64 of the memory; rows with equal numbers, such as those with equal captions, belong together.
    """

    ids: Tensor
    rows: dict[Modality, EmbeddingRows]
    candidates: dict[Modality, Candidates]
    group: Tensor

    @classmethod
    def from_memory(
        cls,
        memory: SearchableMemory,
        ids: NDArray[np.int64],
        num_candidates: int | None = None,
        *,
        group: NDArray[np.int64] | None = None,
        settings: SearchSettings | None = None,
        work: Path | None = None,
        device: str = "cpu",
        report: Callable[[int, int], None] | None = None,
    ) -> "TrainingPairs":
        """Use pairs of the memory itself as training queries.

        A pair never retrieves itself nor a copy of its image (`exclusion.py`): either would leak the
        answer. Other images that share the caption are legitimate knowledge.

        Args:
            memory: where the pairs lie and where they search.
            ids: (N,) of the pairs to train on.
            num_candidates: M, kept for each pair; k neighbours are drawn of them in each epoch. 64 by default.
            group: (R,) of all rows, what belongs together; equal captions and equal images by default.
            settings, work, device, report: of the search, see `find_candidates`.

        Raises:
            ValueError: an embedding is not finite, or no pair has anything left to retrieve.
        """
        settings = settings or SearchSettings()
        if num_candidates is not None:
            settings = replace(settings, num_candidates=num_candidates)
        if group is None:
            group = number_alike(memory, ids)
        queries = torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64))
        found = cls(
            ids=queries,
            candidates=find_candidates(memory, queries, settings, work, device=device, report=report),
            rows={modality: open_rows(memory, modality, device) for modality in MODALITIES},
            group=torch.from_numpy(group),
        )
        if len(found) and found.num_alone == len(found):
            raise ValueError(_nothing_left(len(found), settings))
        return found

    @classmethod
    def from_entities(cls, pairs: EntityPairs, num_candidates: int = 64) -> "TrainingPairs":
        """Use pairs of entities as training queries and as the memory; what shows one entity belongs together.

        A pair never retrieves itself nor a copy of its image, which another entity may have with another caption.
        """
        candidates: dict[Modality, Candidates] = {}
        sides: dict[Modality, Tensor] = {"image": pairs.image, "text": pairs.text}
        ids = torch.arange(len(pairs.image))
        for modality, keys in sides.items():
            found = [
                (keys[own] @ keys.T)
                .masked_fill(pairs.copies(pairs.image[own]), -torch.inf)
                .scatter(1, own.unsqueeze(1), -torch.inf)
                .topk(min(num_candidates, len(keys) - 1))
                for own in ids.split(_ENTITY_BLOCK)
            ]
            similarities, rows = (torch.cat(part) for part in zip(*found, strict=True))
            real = similarities.isfinite()
            candidates[modality] = Candidates(rows.where(real, -1), similarities.where(real, 0.0))
        return cls(ids, {modality: ResidentRows(side) for modality, side in sides.items()}, candidates, pairs.entity)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_candidates(self) -> int:
        """M, of both sides."""
        return self.candidates["image"].rows.shape[1]

    @property
    def num_alone(self) -> int:
        """How many of the pairs have nothing that they may retrieve; the same on both sides."""
        return int((self.candidates["image"].rows[:, 0] < 0).sum())

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.rows["text"].take(torch.zeros(1, dtype=torch.int64)).shape[1])

    def some(self, count: int, dice: torch.Generator) -> "TrainingPairs":
        """At most `count` of the pairs, at random; the memory stays whole."""
        if count >= len(self):
            return self
        return self.kept(torch.randperm(len(self), generator=dice)[:count].sort().values)

    def kept(self, chosen: Tensor) -> "TrainingPairs":
        """Some of the pairs, by place; the memory stays whole."""
        few = {side: Candidates(all_.rows[chosen], all_.similarities[chosen]) for side, all_ in self.candidates.items()}
        return TrainingPairs(self.ids[chosen], self.rows, few, self.group)

    def batch(
        self, modality: Modality, pairs: Tensor, chosen: Tensor, mask: Tensor, noise: NameNoise | None = None
    ) -> Batch:
        """One side of a batch.

        Args:
            pairs: (B,) which pairs.
            chosen: (B, K) int64, which of their candidates.
            mask: (B, K) bool, which of the chosen count.
            noise: moves texts, queries and memory alike.
        """
        found, ids = self.candidates[modality], self.ids[pairs]
        rows = found.rows[pairs].gather(1, chosen).long()  # (B, K)
        mask = mask & (rows >= 0)
        rows.clamp_(min=0)
        similarities = found.similarities[pairs].gather(1, chosen) * mask
        query = self._take(modality, ids, noise)
        if noise is not None and modality == "text":
            keys = self._take(modality, rows.flatten(), noise).view(*rows.shape, -1)
            anew = torch.einsum("bd,bkd->bk", query, keys).cpu().masked_fill(~mask, -torch.inf)
            anew, order = anew.sort(dim=1, descending=True, stable=True)
            rows, mask = rows.gather(1, order), mask.gather(1, order)
            similarities = anew.masked_fill(~mask, 0.0)
        values = self._take(OTHER_MODALITY[modality], rows.flatten(), noise)
        unseen = (~mask).flatten().nonzero().squeeze(1)
        values.index_fill_(0, unseen.to(values.device), 0.0)
        return Batch(query, values.view(*rows.shape, -1), similarities, mask)

    def hidden(self, modality: Modality, pairs: Tensor, share: MemoryShare | None) -> Tensor | None:
        """Which candidates (B, M) of some pairs are not in a share of the memory."""
        return None if share is None else share.hides(self.candidates[modality].rows[pairs])

    def positives(self, pairs: Tensor) -> Tensor:
        """(B, B) bool: which images and texts of the batch belong together."""
        group = self.group[self.ids[pairs]]
        return group.unsqueeze(0) == group.unsqueeze(1)

    def _take(self, modality: Modality, rows: Tensor, noise: NameNoise | None) -> Tensor:
        taken = self.rows[modality].take(rows)
        return taken if noise is None or modality == "image" else noise.move(taken, self.group[rows])


def _nothing_left(count: int, settings: SearchSettings) -> str:
    """Without a neighbour there is nothing to learn from: a fusion would finish, and have learned to do nothing."""
    sentence = f"none of the {count:,} pairs has an item left that it may retrieve"
    if settings.exclude_same != "nothing":
        return (
            f"{sentence}: all are of one {settings.exclude_same}, and items of the same {settings.exclude_same} are "
            "left out; let them count, or train on a memory that was built from several"
        )
    return (
        f"{sentence}: images with a cosine above near_duplicate = {settings.near_duplicate:g} count as copies of one "
        "another; raise it (1 for none), or build the memory from different images"
    )
