"""A figure as it is reported: its value for each seed, and the gain over the frozen encoder with its interval.

Shapes: S seeds, N images or queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Interval
from evaluation.refinement import SCORINGS, Scoring

Outcomes = Mapping[Scoring, NDArray[np.floating]]  # (S, N) each, 0 to 1


@dataclass(frozen=True)
class Figure:
    """One number of a table.

    Attributes:
        seeds: its value for each fusion.
        gain: the mean over the seeds minus that of `none`; None for `none` itself.
        interval: of the gain, by the paired bootstrap; None where none was drawn.
    """

    seeds: tuple[float, ...]
    gain: float | None = None
    interval: Interval | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.seeds))

    @property
    def spread(self) -> float:
        """Half the range over the seeds."""
        return float(np.ptp(self.seeds) / 2)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        interval = None if self.interval is None else list(self.interval)
        seeds = list(self.seeds)
        return {"mean": self.mean, "spread": self.spread, "seeds": seeds, "gain": self.gain, "interval": interval}


Measure = dict[Scoring, Figure]


@dataclass(frozen=True)
class Section:
    """One table: measures by name, each a figure for every scoring.

    Attributes:
        name: key in results.json.
        title: for people.
        headline: which measure the curves follow.
        lower_is_better: measures, such as a rank, of which less is more.
        asked: how many queries there are, for people.
        chance: of measures, what an answer at random gets, in the measure's own unit.
    """

    name: str
    title: str
    measures: dict[str, Measure]
    headline: str
    lower_is_better: frozenset[str] = frozenset()
    asked: str = ""
    chance: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            name: {scoring: figure.as_dict() for scoring, figure in measure.items()}
            for name, measure in self.measures.items()
        }


def stacked(seeds: list[dict[Scoring, NDArray[Any]]]) -> dict[Scoring, NDArray[Any]]:
    """What every seed gave, (N,) by scoring, as (S, N) by scoring."""
    return {scoring: np.stack([one[scoring] for one in seeds]) for scoring in SCORINGS}


def share(outcomes: Outcomes, bootstrap: Bootstrap, groups: NDArray[np.int64] | None = None) -> Measure:
    """The mean outcome in percent. Images (or groups of them) are resampled, the seeds averaged.

    Args:
        outcomes: (S, N) by scoring, 0 to 1.
        bootstrap: draws the intervals.
        groups: as in `Bootstrap.means`.
    """
    frozen = outcomes["none"].mean(axis=0)
    measure: Measure = {}
    for scoring in SCORINGS:
        values = tuple(float(value) * 100 for value in outcomes[scoring].mean(axis=1))
        if scoring == "none":
            measure[scoring] = Figure(values)
            continue
        gains = outcomes[scoring].mean(axis=0) - frozen  # (N,)
        interval = bootstrap.interval(bootstrap.means(gains[:, None], groups)[:, 0] * 100)
        measure[scoring] = Figure(values, float(gains.mean()) * 100, interval)
    return measure


def plain(values: Mapping[Scoring, NDArray[np.floating]]) -> Measure:
    """Figures without intervals from one value a seed, (S,) by scoring."""
    frozen = float(np.mean(values["none"]))
    return {
        scoring: Figure(
            tuple(map(float, values[scoring])),
            None if scoring == "none" else float(np.mean(values[scoring])) - frozen,
        )
        for scoring in SCORINGS
    }
