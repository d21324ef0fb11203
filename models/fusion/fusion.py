"""A fusion: one module for image queries, one for text queries, and the temperature they were trained with."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.designs import Design
from models.fusion.config import FusionConfig
from models.fusion.copy import CopyFusion
from models.fusion.evidence import EvidenceFusion
from models.fusion.faithful import FusionTransformer
from models.fusion.gate import GateFusion

FusionModule = FusionTransformer | CopyFusion | GateFusion | EvidenceFusion
_MODULES: dict[Design, type[FusionModule]] = {
    "faithful": FusionTransformer,
    "copy": CopyFusion,
    "gate": GateFusion,
    "evidence": EvidenceFusion,
}


class Fusion(nn.Module):
    """Both sides of the trained part of RECO; separate weights a side (section 3.2 of the paper)."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.image = _MODULES[config.design](config)
        self.text = _MODULES[config.design](config)
        if config.label_sets:
            self.image_of_label_sets = EvidenceFusion(config)
            self.text_of_label_sets = EvidenceFusion(config)
        # Stored as a log, as in CLIP; training keeps it in [0, log 100].
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def side(self, modality: Literal["image", "text"]) -> FusionModule:
        """The module that refines queries of `modality` that stand alone."""
        return self.image if modality == "image" else self.text

    def evidence(self, modality: Literal["image", "text"]) -> EvidenceFusion | None:
        """The module that refines `modality` where labels are weighed as a set; None where the fusion knows no such."""
        side: nn.Module = self.side(modality)
        if self.config.label_sets:
            side = self.image_of_label_sets if modality == "image" else self.text_of_label_sets
        return side if isinstance(side, EvidenceFusion) else None

    def refine(
        self,
        modality: Literal["image", "text"],
        query: Tensor,
        values: Tensor,
        similarities: Tensor,
        mask: Tensor,
        keys: Tensor,
    ) -> Tensor:
        """Refine queries that stand alone: (B, D) float32, unit norm.

        Args:
            modality: of the queries.
            query: (B, D) unit norm.
            values, keys: (B, K, D) unit norm, the neighbours' other modality, and what the query was compared with.
            similarities, mask: (B, K) of the neighbours.
        """
        side = self.side(modality)
        found = query, values, similarities, mask
        refined: Tensor = side(*found, keys=keys) if isinstance(side, EvidenceFusion) else side(*found)
        return refined

    @property
    def scale(self) -> Tensor:
        """The factor on similarities in the loss: e to the logit scale."""
        return self.logit_scale.exp()
