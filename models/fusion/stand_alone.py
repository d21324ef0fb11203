"""How far a query that stands alone follows the memory, read off the query and what it found.

    weight = limit * sigmoid(<there, z> + there_bias) * sigmoid(<needed, z> + needed_bias)      z = the signs, scaled

The first factor asks whether the memory holds the thing, the second whether the encoder needs to be told. The signs:

1 how similar the best neighbour is                    2 the same among what tells things apart (whitened)
3 how far the neighbours' values agree (whitened)      4 how well the encoder matches the query to these values

Mixed-up captions fail 3; a thing that the memory lacks fails 2, and finds other things just as similar by 1. What the
encoder knows passes 4. Shapes: B queries, K neighbours, D embedding dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_SIGNS = 4
_FARTHEST = 3.0  # standard deviations: a memory unlike any that was trained on is judged as the most unlike of them
_NEAREST = 1e-4  # of 1 - cosine: nearer is as good as equal


class StandAlone(nn.Module):
    """The weight of a query; fitted by `models.training.stand_alone`, and a tenth for all until then.

    `handicap` is taken along the centre from every query with evidence, in units of its weight: what the memory holds
    must not win over what it lacks by being looked up.
    """

    centre: Tensor
    spread: Tensor
    there: Tensor
    there_bias: Tensor
    needed: Tensor
    needed_bias: Tensor
    limit: Tensor
    handicap: Tensor
    key_centre: Tensor
    key_whitening: Tensor

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        for name, value in (("centre", 0.0), ("spread", 1.0), ("there", 0.0), ("needed", 0.0)):
            self.register_buffer(name, torch.full((NUM_SIGNS,), value))
        for name, value in (("there_bias", 10.0), ("needed_bias", 10.0), ("limit", 0.1), ("handicap", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("key_centre", torch.zeros(embed_dim))
        self.register_buffer("key_whitening", torch.eye(embed_dim))

    def forward(self, signs: Tensor) -> Tensor:
        """(B, NUM_SIGNS) to weights (B,), at least 0 and less than `limit`."""
        return self.limit * share(self.scaled(signs), self.there, self.there_bias, self.needed, self.needed_bias)

    def scaled(self, signs: Tensor) -> Tensor:
        """(B, NUM_SIGNS), each about 1 wide over what was trained on."""
        return ((signs - self.centre) / self.spread).clamp(-_FARTHEST, _FARTHEST)

    def signs(
        self, query: Tensor, keys: Tensor, similarities: Tensor, mask: Tensor, whitened: Tensor, match: Tensor
    ) -> Tensor:
        """What a query is judged by.

        Args:
            query: (B, D) unit norm.
            keys: (B, K, D) unit norm, what the query was compared with.
            similarities, mask: (B, K) of the neighbours.
            whitened: (B, K, K) inner products of the neighbours' whitened values.
            match: (B,) cosine of the query to the mean of the values.

        Returns:
            (B, NUM_SIGNS) float32; of a query without neighbours, finite and meaningless.
        """
        best = _best(similarities, mask)
        same = _best(self._whitened_cosines(query, keys), mask)
        return torch.stack([_nearness(best), _nearness(same), _coherence(whitened, mask), match], dim=-1)

    def _whitened_cosines(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B, K): of the query and its neighbours' keys, where what varies within a thing is damped."""
        query, keys = query - self.key_centre, keys - self.key_centre
        whitened = query @ self.key_whitening
        lengths = (whitened * query).sum(dim=-1, keepdim=True) * ((keys @ self.key_whitening) * keys).sum(dim=-1)
        return torch.einsum("bd,bkd->bk", whitened, keys) / lengths.clamp(min=1e-12).sqrt()


def share(signs: Tensor, there: Tensor, there_bias: Tensor, needed: Tensor, needed_bias: Tensor) -> Tensor:
    """Of the limit, (B,) in (0, 1), from scaled signs (B, NUM_SIGNS)."""
    return torch.sigmoid(signs @ there + there_bias) * torch.sigmoid(signs @ needed + needed_bias)


def _best(cosines: Tensor, mask: Tensor) -> Tensor:
    """(B,): the highest of the real neighbours, -1 without any."""
    return F.pad(cosines.masked_fill(~mask, -1.0), (0, 1), value=-1.0).amax(dim=1)


def _nearness(cosine: Tensor) -> Tensor:
    """Higher is nearer, on a scale that tells 0.99 from 0.999."""
    return -torch.log((1 - cosine).clamp(min=_NEAREST))


def _coherence(products: Tensor, mask: Tensor) -> Tensor:
    """(B,): the mean cosine of different neighbours' values, from all inner products; 0 for fewer than two."""
    lengths = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
    cosines = products / (lengths.unsqueeze(1) * lengths.unsqueeze(2)) * (mask.unsqueeze(1) & mask.unsqueeze(2))
    count = mask.sum(dim=1)
    return (cosines.sum(dim=(1, 2)) - count) / (count * (count - 1)).clamp(min=1)
