"""How far a query that stands alone follows the memory, read off the query and what it found.

    weight = limit * sigmoid(<there, z> + there_bias) * sigmoid(<needed, z> + needed_bias)      z = the signs, scaled

The first factor asks whether the memory holds the thing, the second whether the encoder needs to be told. The signs:

1 how similar the best neighbour is                    2 the same among what tells things apart (whitened)
3 how far the neighbours' values agree (whitened)      4 how well the encoder matches the query to these values

Mixed-up captions fail 3; a thing that the memory lacks fails 2, and finds other things just as similar by 1. What the
encoder knows passes 4. Shapes: B queries, K neighbours, D embedding dim.
"""

import torch
from torch import Tensor, nn

from models.fusion.damped_product import DampedProduct

NUM_SIGNS = 4
_FARTHEST = 3.0  # standard deviations: a memory unlike any that was trained on is judged as the most unlike of them
_NEAREST = 1e-4  # of 1 - cosine: nearer is as good as equal


class StandAlone(nn.Module):
    """The weight of a query; fitted by `models.training.fitting.stand_alone`, and a tenth for all until then.

    `handicap` is taken along the centre from every query with evidence, in units of its weight: what the memory holds
    must not win over what it lacks by being looked up. `keys` and `values` are the whitened products of both sides of
    the neighbours.
    """

    centre: Tensor
    spread: Tensor
    there: Tensor
    there_bias: Tensor
    needed: Tensor
    needed_bias: Tensor
    limit: Tensor
    handicap: Tensor

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        for name, value in (("centre", 0.0), ("spread", 1.0), ("there", 0.0), ("needed", 0.0)):
            self.register_buffer(name, torch.full((NUM_SIGNS,), value))
        for name, value in (("there_bias", 10.0), ("needed_bias", 10.0), ("limit", 0.1), ("handicap", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        self.keys = DampedProduct(embed_dim)
        self.values = DampedProduct(embed_dim)

    def forward(self, signs: Tensor) -> Tensor:
        """(B, NUM_SIGNS) to weights (B,), at least 0 and less than `limit`."""
        return self.limit * share(self.scaled(signs), self.there, self.there_bias, self.needed, self.needed_bias)

    def scaled(self, signs: Tensor) -> Tensor:
        """(B, NUM_SIGNS), each about 1 wide over what was trained on."""
        return ((signs - self.centre) / self.spread).clamp(-_FARTHEST, _FARTHEST)

    def signs(
        self, query: Tensor, keys: Tensor, values: Tensor, similarities: Tensor, mask: Tensor, match: Tensor
    ) -> Tensor:
        """What a query is judged by.

        Args:
            query: (B, D) unit norm.
            keys: (B, K, D) unit norm, what the query was compared with.
            values: (B, K, D) unit norm, of the other modality.
            similarities, mask: (B, K) of the neighbours, K at least 1.
            match: (B,) cosine of the query to the mean of the values.

        Returns:
            (B, NUM_SIGNS) float32; of a query without neighbours, finite and meaningless.
        """
        cosines = torch.stack([similarities, self.keys.cosines(query, keys)])  # (2, B, K)
        best, same = nearness(cosines.masked_fill(~mask, -1.0).amax(dim=-1))
        return torch.stack([best, same, self.values.agreement(values, mask), match], dim=-1)


def share(signs: Tensor, there: Tensor, there_bias: Tensor, needed: Tensor, needed_bias: Tensor) -> Tensor:
    """Of the limit, (B,) in (0, 1), from scaled signs (B, NUM_SIGNS)."""
    return torch.sigmoid(signs @ there + there_bias) * torch.sigmoid(signs @ needed + needed_bias)


def nearness(cosine: Tensor) -> Tensor:
    """Higher is nearer, on a scale that tells 0.99 from 0.999."""
    return -torch.log((1 - cosine).clamp(min=_NEAREST))
