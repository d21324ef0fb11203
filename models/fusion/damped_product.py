"""An inner product in which the directions that vary within a thing count less: a whitening that costs an eighth.

    <x, y>' = base <x - c, y - c> - <(x - c) U, (y - c) U>

The shrunk inverse W of a scatter damps a few directions much and the others alike. U are those few, scaled by what they
lose; `base` is what the others keep, on average. So no row is multiplied by a D x D matrix, which for the neighbours of
a batch of queries took longer than all the rest of the fusion. Shapes: B queries, K neighbours, D embedding dim,
R = NUM_DAMPED.
"""

import torch
from torch import Tensor, nn

NUM_DAMPED = 64
_SMALLEST = 1e-12  # of a squared length: a row at the centre is like nothing


class DampedProduct(nn.Module):
    """Lengths and products of centred rows; the plain ones until it is fitted."""

    centre: Tensor
    base: Tensor
    damped: Tensor

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(embed_dim))
        self.register_buffer("base", torch.ones(()))
        self.register_buffer("damped", torch.zeros(embed_dim, min(NUM_DAMPED, embed_dim)))

    @torch.no_grad()
    def fit(self, centre: Tensor, whitening: Tensor) -> None:
        """Take the R directions that lose most.

        Args:
            centre: (D,).
            whitening: (D, D) symmetric, positive definite.
        """
        strength, directions = torch.linalg.eigh(whitening)  # ascending: what is damped most comes first
        count = self.damped.shape[1]
        base = strength[count:].mean() if count < len(strength) else strength.amax()
        self.centre.copy_(centre)
        self.base.copy_(base)
        self.damped.copy_(directions[:, :count] * (base - strength[:count]).clamp(min=0).sqrt())

    def cosines(self, query: Tensor, rows: Tensor) -> Tensor:
        """Of each query (B, D) and its rows (B, K, D): (B, K), 0 for a row at the centre."""
        query, rows = query - self.centre, rows - self.centre
        near, far = query @ self.damped, rows @ self.damped  # (B, R), (B, K, R)
        products = self.base * (rows * query.unsqueeze(1)).sum(dim=-1) - (far * near.unsqueeze(1)).sum(dim=-1)
        squares = self._squares(query, near).unsqueeze(1) * self._squares(rows, far)
        return products / squares.clamp(min=_SMALLEST).sqrt()

    def agreement(self, rows: Tensor, mask: Tensor) -> Tensor:
        """How alike the rows (B, K, D) of a query are: (B,), the mean cosine of different ones; 0 for fewer than two.

        By the length of the sum of all, each made one long: of K rows that is K sums, of their pairs K x K.

        Args:
            mask: (B, K) bool, True for a row that counts.
        """
        rows = rows - self.centre
        far = rows @ self.damped
        share = (mask / self._squares(rows, far).clamp(min=_SMALLEST).sqrt()).unsqueeze(1)  # (B, 1, K)
        total = self._squares((share @ rows).squeeze(1), (share @ far).squeeze(1))
        count = mask.sum(dim=1)
        return (total - count) / (count * (count - 1)).clamp(min=1)

    def _squares(self, rows: Tensor, damped: Tensor) -> Tensor:
        squares: Tensor = self.base * rows.square().sum(dim=-1) - damped.square().sum(dim=-1)
        return squares
