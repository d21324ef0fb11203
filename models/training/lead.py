"""How far one design is ahead of another on what is held out, and how far chance alone may put it. Imports torch.

Both answered the same questions, so it is their differences that are looked at. Shapes: Q questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NOISE = 2.0  # standard errors: what two equals differ by in 19 of 20 draws


@dataclass(frozen=True)
class Lead:
    """By how much something is ahead of `over`, and the standard error of that."""

    over: str
    by: float
    error: float

    @property
    def within_noise(self) -> bool:
        """Whether another draw of what is held out could as well have said the opposite."""
        return abs(self.by) <= _NOISE * self.error

    @classmethod
    def of(cls, over: str, first: Tensor, second: Tensor, group: Tensor | None = None) -> "Lead":
        """The lead of what reached `first` over what reached `second`.

        Args:
            first, second: (Q,) of the same questions, in the unit that the lead is told in.
            group: (Q,) int64 from 0, what each question is about: those of one thing go right or wrong together, so it
                is things that are drawn. Each question stands for itself if not given.
        """
        ahead = (first - second).double()
        group = torch.arange(len(ahead)) if group is None else group
        mean = ahead.mean()
        sums = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add_(0, group, ahead - mean)
        groups = len(group.unique())
        error = (sums.square().sum() * groups / max(1, groups - 1)).sqrt() / len(ahead)
        return cls(over, float(mean), float(error))


def told_leads(leads: Sequence[Lead], form: str) -> str:
    """What is ahead of what, for a person: `ahead of copy by 1.0 ± 0.8, within noise`; numbers as `form` says."""
    said = [
        f"{'ahead of' if one.by >= 0 else 'behind'} {one.over} by {abs(one.by):{form}} ± {one.error:{form}}"
        + (", within noise" if one.within_noise else "")
        for one in leads
    ]
    return "; ".join(said)
