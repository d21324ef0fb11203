"""Training pairs as another arrangement of search and fusion sees them: every one is fitted by the same procedure.

`models.training.dataset.entity_pairs.ask` compares a query with the pairs' side of its own modality; here that side
holds what the arrangement searches. Shapes: N pairs, G entities, B queries, D embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.ablations.arrangement import Arrangement
from memory import Modality
from models.training.dataset.entity_pairs import EntityPairs


@dataclass(frozen=True)
class ArrangedPairs(EntityPairs):
    """Pairs whose `image` and `text` (N, D) are what image and text queries search; the rest is the original's."""

    original: EntityPairs | None = None
    arrangement: Arrangement | None = None

    @classmethod
    def of(cls, pairs: EntityPairs, arrangement: Arrangement) -> "ArrangedPairs":
        """Arrange pairs."""
        sides: dict[Modality, Tensor] = {"image": pairs.image, "text": pairs.text}
        image, text = sides[arrangement.keys("image")], sides[arrangement.keys("text")]
        return cls(image, text, pairs.entity, 1, pairs, arrangement)

    @property
    def names(self) -> Tensor:
        """(G, D) unit norm."""
        return self._parts[0].names

    @property
    def questions(self) -> tuple[Tensor, Tensor]:
        """Images (B, D) that ask, and their entities (B,)."""
        return self._parts[0].questions

    def values(self, modality: Modality) -> Tensor:
        """What queries of a modality are fused with: (N, D)."""
        original, arrangement = self._parts
        return original.image if arrangement.values(modality) == "image" else original.text

    def of_entities(self, chosen: Tensor) -> "ArrangedPairs":
        """The pairs of some entities, numbered anew."""
        original, arrangement = self._parts
        return ArrangedPairs.of(original.of_entities(chosen), arrangement)

    def sample(self, dice: torch.Generator) -> "ArrangedPairs":
        """As of the original."""
        original, arrangement = self._parts
        return ArrangedPairs.of(original.sample(dice), arrangement)

    @property
    def _parts(self) -> tuple[EntityPairs, Arrangement]:
        assert self.original is not None and self.arrangement is not None, "made by `of`"
        return self.original, self.arrangement
