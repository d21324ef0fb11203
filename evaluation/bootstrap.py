"""The paired bootstrap: how far a mean over images would move had other images of the same kind been asked.

Drawing N images with replacement and averaging their outcomes is the same as drawing how often each *distinct* outcome
comes up, so thousands of resamples cost one multinomial draw. numpy only.
Shapes: N images, M outcomes of each, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """How to resample.

    Attributes:
        resamples: R; 0 for no intervals.
        level: of the interval, between the quantiles (1 - level) / 2 and (1 + level) / 2.
        seed: the same seed and outcomes give the same interval.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def dice(self) -> np.random.Generator:
        """A generator at its beginning, for parts that are drawn apart: each goes on where the last one stopped."""
        return np.random.default_rng(self.seed)

    def means(
        self,
        outcomes: NDArray[np.floating],
        groups: NDArray[np.int64] | None = None,
        dice: np.random.Generator | None = None,
    ) -> NDArray[np.float64]:
        """Resampled means (R, M).

        Args:
            outcomes: (N, M); a row is drawn as a whole, which is what makes the comparison paired.
            groups: (N,) which rows are drawn together, such as the captions of one image; each on its own by default.
            dice: a new `dice()` by default, so that measures of the same images are drawn alike.
        """
        if groups is None:
            units = np.column_stack([outcomes, np.ones(len(outcomes))])  # sums and number of rows of each unit
        else:
            _, group = np.unique(groups, return_inverse=True)
            units = np.zeros((group.max(initial=-1) + 1, outcomes.shape[1] + 1))
            np.add.at(units, group, np.column_stack([outcomes, np.ones(len(outcomes))]))
        distinct, counts = np.unique(units, axis=0, return_counts=True)
        dice = self.dice() if dice is None else dice
        drawn = dice.multinomial(len(units), counts / len(units), size=self.resamples) @ distinct  # (R, M + 1)
        means: NDArray[np.float64] = drawn[:, :-1] / drawn[:, -1:]
        return means

    def interval(self, values: NDArray[np.floating]) -> Interval | None:
        """The interval of resampled values (R,); None without resamples."""
        if not len(values):
            return None
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)
