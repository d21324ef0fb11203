"""What a query that stands alone is tried on: uses that it must serve, and cases in which it must do no harm.

Shapes: B queries, K neighbours, n answers of the other modality, D embedding dim.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import Modality
from models.fusion.evidence import EvidenceFusion
from models.fusion.left_out import SHARPNESS
from models.training.entity_pairs import SAME_CAPTION, Asked, EntityPairs, ask, ask_for_pair


@dataclass(frozen=True)
class Trial:
    """Queries (B, D) against a gallery (n, D) of the other modality, with the share (B, n) that is right for each.

    `by_gallery`: it is the gallery's rows that look for a query, as images look for their name. `counted`: which of
    those who look are counted; all by default.
    """

    asked: Asked
    gallery: Tensor
    right: Tensor
    by_gallery: bool = False
    counted: Tensor | None = None

    def loss(self, side: EvidenceFusion | None) -> float:
        """Cross-entropy at its best sharpness; without a side, of the original queries."""
        queries = self.asked.queries if side is None else side(self.asked.queries, *self.asked.found)
        scores = queries @ self.gallery.T
        scores, right = (scores.T, self.right.T) if self.by_gallery else (scores, self.right)
        scores, right = scores / spread(scores), right / right.sum(dim=1, keepdim=True)
        if self.counted is not None:
            scores, right = scores[self.counted], right[self.counted]
        return min(float(F.cross_entropy(factor * scores, right)) for factor in SHARPNESS)


def entity_trial(pairs: EntityPairs, modality: Modality, k: int) -> Trial:
    """Images and the names of their entities; it is always the image that asks for its name."""
    asked, (images, labels) = ask(pairs, modality, k), pairs.questions
    belongs = F.one_hot(labels, pairs.num_entities).float()  # (images, G)
    if modality == "image":
        return Trial(asked, pairs.names, belongs)
    return Trial(asked, images, belongs.T, by_gallery=True)


def pair_trial(pairs: EntityPairs, modality: Modality, k: int) -> Trial:
    """Single pairs: a caption and its own image, or those of an equal caption."""
    asked = ask_for_pair(pairs, modality, k)
    text = pairs.text[asked.entity]  # of a pair query, the row it is of
    gallery = text if modality == "image" else pairs.image[asked.entity]
    return Trial(asked, gallery, (text @ text.T > SAME_CAPTION).float())


def absent_trial(pairs: EntityPairs, modality: Modality, k: int) -> Trial:
    """Images and names, and every second entity is not in the memory: its images are asked for their name."""
    trial, hidden = entity_trial(pairs, modality, k), ask(pairs, modality, k, hidden=True)
    absent = trial.asked.entity % 2 == 0  # (B,)
    asked = Asked(
        trial.asked.queries,
        trial.asked.entity,
        *(_either(absent, two, one) for one, two in zip(_found(trial.asked), _found(hidden), strict=True)),
    )
    _, labels = pairs.questions
    return replace(trial, asked=asked, counted=labels % 2 == 0)


def mixed_trial(pairs: EntityPairs, modality: Modality, k: int, dice: torch.Generator) -> Trial:
    """Images and names in a memory whose captions were mixed up."""
    trial, values = entity_trial(pairs, modality, k), pairs.values(modality)
    mixed = values[torch.randperm(len(values), generator=dice)][trial.asked.rows]
    return replace(trial, asked=replace(trial.asked, values=mixed * trial.asked.mask.unsqueeze(-1)))


def spread(scores: Tensor) -> Tensor:
    """How far a query's scores differ, on average."""
    return scores.std(dim=1).mean().clamp(min=1e-6)


def _found(asked: Asked) -> tuple[Tensor, ...]:
    return asked.rows, *asked.found


def _either(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Rows of `one` where `chosen` (B,), of `other` elsewhere."""
    return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other)
