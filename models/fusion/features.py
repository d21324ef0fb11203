"""What is known of each neighbour before any of it is mixed in: the evidence for trusting it.

Shapes: B queries, K neighbours, D embedding dim, E = NUM_FEATURES.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_FEATURES = 7


class NeighbourFeatures(nn.Module):
    """Seven numbers a neighbour, standardised by the training set's mean and spread.

    1 its similarity to the query · 2 its gap to the best · 3 the spread of all similarities · 4 how far its value
    agrees with the other values (noisy captions disagree) · 5 its rank · 6 log(1 - similarity) · 7 how well the
    *encoder itself* matches its value to the query: high where CLIP knows the thing already, low where only the
    memory knows it.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("std", torch.ones(NUM_FEATURES))
        self.register_buffer("centre", torch.zeros(embed_dim))  # mean value: the modality gap, taken out

    @torch.no_grad()
    def fit(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> None:
        """Take the centre of the values and each feature's mean and spread from training neighbours.

        Raises:
            ValueError: there are fewer than two neighbours, which have no spread.
        """
        if int(mask.sum()) < 2:
            raise ValueError("fewer than two neighbours in training: nothing tells how far features spread")
        self.centre.copy_(values[mask].mean(dim=0))
        raw = self._raw(query, values, similarities, mask)[mask]  # (n, E)
        self.mean.copy_(raw.mean(dim=0))
        self.std.copy_(raw.std(dim=0).clamp(min=1e-3))

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Features (B, K, E) float32; zeros where `mask` is False. Arguments as in `FusionTransformer`."""
        features = (self._raw(query, values, similarities, mask) - self.mean) / self.std
        return features.masked_fill(~mask.unsqueeze(-1), 0.0)

    def agreement(self, query: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """How well the encoder itself matches a query to the values found for it: (B,), 0 without neighbours.

        The mean over the neighbours of feature 7. High where the encoder knows the thing already.
        """
        real = mask.to(query.dtype)
        matched = torch.einsum("bd,bkd->bk", query, values - self.centre) * real
        return matched.sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def _raw(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        real = mask.to(query.dtype)  # (B, K)
        count = real.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        similarities = similarities * real
        best = F.pad(similarities.masked_fill(~mask, -1.0), (0, 1), value=-1.0).amax(dim=1, keepdim=True)
        mean = similarities.sum(dim=1, keepdim=True) / count
        spread = (((similarities - mean) * real).square().sum(dim=1, keepdim=True) / count).sqrt()
        centred = F.normalize(values - self.centre, dim=-1) * real.unsqueeze(-1)  # (B, K, D)
        others = (centred.sum(dim=1, keepdim=True) - centred) / (count - 1).clamp(min=1).unsqueeze(-1)
        rank = torch.arange(mask.shape[1], device=mask.device, dtype=query.dtype).expand_as(similarities)
        return torch.stack(
            [
                similarities,
                best - similarities,
                spread.expand_as(similarities),
                (centred * others).sum(dim=-1),
                torch.log1p(rank),
                torch.log((1 - similarities).clamp(min=1e-4)),
                torch.einsum("bd,bkd->bk", query, values - self.centre),
            ],
            dim=-1,
        )
