"""Which of some numbers equal which of others, without comparing each with each. Torch only."""

import torch
from torch import Tensor


def matching(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Places (P,) in `left` (n,) and (P,) in `right` (m,) of all pairs with equal numbers."""
    ordered, order = left.sort()
    first = torch.searchsorted(ordered, right)
    counts = torch.searchsorted(ordered, right, right=True) - first
    columns = torch.repeat_interleave(torch.arange(len(right), device=right.device), counts)
    within = torch.arange(len(columns), device=right.device) - (counts.cumsum(0) - counts)[columns]
    return order[first[columns] + within], columns
