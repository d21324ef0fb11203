"""The default fusion: the paper's layer, and around it a residual that keeps what CLIP knows already.

    refined = norm(layer(q, r) + g * q)      g = weight * sigmoid((agreement - middle) / width)

agreement is how well the *encoder* matches the query to what the memory returned for it: where CLIP knows a name, the
images that the memory holds under that name match the name for CLIP too. There the original embedding is worth
keeping; where CLIP knows nothing, the layer's answer stands alone. Weight and middle are set after training, on
labelled validation queries (`models.training.calibration`); until then the weight is zero: the faithful layer.
Shapes: B queries, K neighbours, D embedding dim.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.config import FusionConfig
from models.fusion.faithful import FusionTransformer
from models.fusion.features import NeighbourFeatures


class TrustGate(nn.Module):
    """How much of the original embedding to keep, from the encoder's agreement with the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.middle = nn.Parameter(torch.tensor(0.5), requires_grad=False)
        self.log_width = nn.Parameter(torch.tensor(math.log(0.05)), requires_grad=False)

    def forward(self, agreement: Tensor) -> Tensor:
        """(B,) agreement to (B,) weights of the original embedding, at least 0."""
        return self.weight.clamp(min=0) * torch.sigmoid((agreement - self.middle) / self.log_width.exp())


class TrustingFusion(nn.Module):
    """The faithful layer with a gated outer residual."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.layer = FusionTransformer(config)
        self.features = NeighbourFeatures(config.embed_dim)
        self.gate = TrustGate()

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries; arguments, result and refusals as in `FusionTransformer.forward`."""
        agreement = self.features.agreement(query, values, mask)  # (B,)
        refined = self.layer(query, values, similarities, mask)
        return F.normalize(refined + self.gate(agreement).unsqueeze(-1) * query, dim=-1)
