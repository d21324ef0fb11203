"""The residual fusion: starts as gated mean fusion around CLIP's embedding and learns what else to copy.

    o = concat_h[ e^{b_h} * sum_j a_hj (r_j - centre) (I + dV) [:, slice h] ] (I + dO)
    refined = norm(q + o + MLP(LN(q + o)))       a = softmax([null_h; q W_q . r_j W_k + MLP(features)])

dV, dO and the MLP's last layer start at zero. No norm follows the outer sum: a final norm would fix the length of the
step, and the module could then never abstain. Shapes: B queries, K neighbours, D embedding dim, H heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.config import FusionConfig
from models.fusion.features import NeighbourFeatures
from models.fusion.gate import FIRST_STEP, attend_or_abstain, trust_network


class CopyFusion(nn.Module):
    """Multi-head residual attention over the neighbours' values, with a null slot a head."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        dim, self.num_heads, self.head_dim = config.embed_dim, config.num_heads, config.head_dim
        self.features = NeighbourFeatures(dim)
        self.trust = trust_network(self.num_heads)
        self.null = nn.Parameter(torch.zeros(self.num_heads))
        self.step = nn.Parameter(torch.full((self.num_heads,), FIRST_STEP))
        self.query_projection = nn.Parameter(torch.zeros(dim, dim))
        self.key_projection = nn.Parameter(torch.randn(dim, dim) / math.sqrt(dim))
        self.value_change = nn.Parameter(torch.zeros(dim, dim))
        self.out_change = nn.Parameter(torch.zeros(dim, dim))
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        for parameter in self.feed_forward[2].parameters():
            nn.init.zeros_(parameter)

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries; arguments and result as in `FusionTransformer.forward`, with any K."""
        heads = (self.num_heads, self.head_dim)
        centred = (values - self.features.centre) * mask.unsqueeze(-1)  # (B, K, D)

        # Attend: the query's and each neighbour's content, and the evidence for the neighbour.
        probe = (query @ self.query_projection).unflatten(-1, heads)  # (B, H, d)
        probe = torch.einsum("bhe,dhe->bhd", probe, self.key_projection.unflatten(-1, heads))  # (B, H, D)
        logits = torch.einsum("bhd,bkd->bhk", probe, centred) * math.sqrt(self.head_dim)
        logits = logits + self.trust(self.features(query, values, similarities, mask)).transpose(1, 2)
        attention = attend_or_abstain(logits, self.null, mask)  # (B, H, K)

        # Copy: mix first, project after, as in the faithful layer.
        mixed = torch.einsum("bhk,bkd->bhd", attention * self.step.exp().view(1, -1, 1), centred)  # (B, H, D)
        change = torch.einsum("bhd,dhe->bhe", mixed, self.value_change.unflatten(-1, heads)).flatten(1)
        own = mixed.unflatten(-1, heads).diagonal(dim1=1, dim2=2).transpose(1, 2).flatten(1)  # slice h of head h
        copied = own + change  # (B, D)
        state = query + copied + copied @ self.out_change
        return F.normalize(state + self.feed_forward(self.feed_forward_norm(state)), dim=-1)
