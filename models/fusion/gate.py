"""The smallest fusion: the query steps towards its neighbours' values, as far as the evidence says.

    a = softmax([null; MLP(features)])      s = e^b * sum_j a_j (r_j - centre)      refined = norm(query + s)

The null slot takes the attention that no neighbour deserves: a query whose neighbours say nothing stays where CLIP put
it. No D x D matrix, so it trains on a few hundred pairs. Shapes: B queries, K neighbours, D embedding dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.config import FusionConfig
from models.fusion.features import NUM_FEATURES, NeighbourFeatures

FIRST_STEP = -2.3  # b at the start: e^b = 0.1, close to CLIP


class GateFusion(nn.Module):
    """Gated mean fusion with a null slot."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.features = NeighbourFeatures(config.embed_dim)
        self.trust = trust_network(heads=1)
        self.null = nn.Parameter(torch.zeros(1))
        self.step = nn.Parameter(torch.full((1,), FIRST_STEP))

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries; arguments and result as in `FusionTransformer.forward`, with any K."""
        trust = self.trust(self.features(query, values, similarities, mask)).squeeze(-1)  # (B, K)
        attention = attend_or_abstain(trust.unsqueeze(1), self.null, mask).squeeze(1)  # (B, K)
        mixed = torch.einsum("bk,bkd->bd", attention, values - self.features.centre)
        return F.normalize(query + self.step.exp() * mixed, dim=-1)


def trust_network(heads: int) -> nn.Sequential:
    """From a neighbour's features to one attention logit a head; starts at equal trust in all."""
    last = nn.Linear(16, heads)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(NUM_FEATURES, 16), nn.GELU(), last)


def attend_or_abstain(logits: Tensor, null: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the neighbours and one null slot.

    Args:
        logits: (B, H, K).
        null: (H,) logit of the null slot.
        mask: (B, K) bool.

    Returns:
        (B, H, K) attention to the neighbours alone; a row sums to less than 1, to 0 without neighbours.
    """
    logits = logits.masked_fill(~mask.unsqueeze(1), -torch.inf)
    null_logits = null.view(1, -1, 1).expand(len(logits), -1, 1)
    return torch.cat([null_logits, logits], dim=-1).softmax(dim=-1)[..., 1:]
