"""The paper's fusion: one pre-norm transformer layer over [query; neighbours], read out at the query's token.

Shapes: B queries, K neighbours each, D embedding dim, H heads, T = K + 1 tokens.
RECO (Iscen et al., ICLR 2024), section 3.2; the parameter count 3,159,040 at D = 512, k = 10 fixes the layer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.config import FusionConfig


class FusionTransformer(nn.Module):
    """One transformer layer that refines a query with the other modality of its neighbours.

    Only token 0 is read, so only its query, its attention row and its feed-forward are computed, and the key and
    value projections are folded into the query's side: the neighbours meet nothing but a normalisation and two dot
    products. The numbers are those of the plain layer (a test holds this); the cost is one token's, not T tokens'.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.most_neighbours = config.k
        self.positions = nn.Parameter(torch.randn(1 + config.k, dim) * 0.02)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.final_norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries.

        Args:
            query: (B, D) float32, unit norm.
            values: (B, K, D) float32, the other modality's unit-norm embeddings, most similar first.
            similarities: (B, K); not used by this design, its tokens know the order by position.
            mask: (B, K) bool, True for a real neighbour; none at all is allowed.

        Returns:
            (B, D) float32, unit norm.

        Raises:
            ValueError: if K exceeds the positions the layer was built with.
        """
        num_neighbours = values.shape[1]
        if num_neighbours > self.most_neighbours:
            raise ValueError(f"{num_neighbours} neighbours for a layer with {self.most_neighbours} positions")
        # Unit-length inputs have entries of about 1/sqrt(D), far below the positions': scale them up.
        tokens = torch.cat([query.unsqueeze(1), values], dim=1) * math.sqrt(query.shape[-1])  # (B, T, D)
        tokens = tokens + self.positions[: 1 + num_neighbours]
        seen = F.pad(mask, (1, 0), value=True)  # (B, T); the query always sees itself

        state = tokens[:, 0] + self._attend(self.attention_norm(tokens), seen)  # (B, D)
        state = state + self.feed_forward(self.feed_forward_norm(state))
        return F.normalize(self.final_norm(state), dim=-1)

    def _attend(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Attention output of token 0: (B, D)."""
        heads = (self.num_heads, self.head_dim)
        weight_q, weight_k, weight_v = self.qkv.weight.chunk(3)  # (D, D) each
        bias_q, _, bias_v = self.qkv.bias.chunk(3)  # the key's bias moves all logits alike: softmax drops it

        # Fold the key projection into the query: q . (W_k x) = (W_k^T q) . x
        query = F.linear(tokens[:, 0], weight_q, bias_q).unflatten(-1, heads)  # (B, H, d)
        probe = torch.einsum("bhe,hed->bhd", query, weight_k.unflatten(0, heads))  # (B, H, D)
        logits = torch.einsum("bhd,btd->bht", probe, tokens) / math.sqrt(self.head_dim)
        attention = logits.masked_fill(~seen.unsqueeze(1), -torch.inf).softmax(dim=-1)  # (B, H, T)

        # Mix first, project after: sum_t a_t (W_v x_t) = W_v (sum_t a_t x_t)
        mixed = torch.einsum("bht,btd->bhd", attention, tokens)  # (B, H, D)
        context = torch.einsum("bhd,hed->bhe", mixed, weight_v.unflatten(0, heads))  # (B, H, d)
        projected: Tensor = self.out(context.flatten(1) + bias_v)
        return projected
