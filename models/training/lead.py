"""How far one design is ahead of another on what is held out, and how far chance alone may put it. Imports torch.

Both answered the same questions, so it is their differences that are looked at. Shapes: Q questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Standard errors that two equals differ by in 19 of 20 draws of 2 things, of 3, ...: by few, the error itself is hardly
# known (Student's t).
_NOISE = (12.7, 4.3, 3.2, 2.8, 2.6, 2.4, 2.4, 2.3, 2.3, 2.2, 2.0)


@dataclass(frozen=True)
class Lead:
    """By how much something is ahead of `over`, and the standard error of that, by so many `things`."""

    over: str
    by: float
    error: float
    things: int = len(_NOISE) + 1

    @property
    def within_noise(self) -> bool:
        """Whether another draw of what is held out could as well have said the opposite."""
        return abs(self.by) <= _NOISE[min(self.things, len(_NOISE) + 1) - 2] * self.error

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
        things = len(group.unique())
        error = (sums.square().sum() * things / max(1, things - 1)).sqrt() / len(ahead)
        return cls(over, float(mean), float(error), things)


def told_leads(leads: Sequence[Lead], form: str) -> str:
    """What is ahead of what, for a person: `ahead of copy by 1.0 ± 0.8, within noise`; numbers as `form` says."""
    said = [
        f"{'ahead of' if one.by >= 0 else 'behind'} {one.over} by {abs(one.by):{form}} ± {one.error:{form}}"
        + (", within noise" if one.within_noise else "")
        for one in leads
    ]
    return "; ".join(said)
