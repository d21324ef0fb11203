"""Accuracies and gains of a method, by seed, and the interval of a gain.

Shapes: S seeds, Q queries, R resamples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.bench import Outcomes
from evaluation.bootstrap import Bootstrap, Interval


@dataclass(frozen=True)
class Cell:
    """One method in one column, in percent and in points; one value a seed.

    Attributes:
        accuracies: empty for a difference of two methods.
        gains: over the reference, on the same queries; empty for the reference itself.
        interval: of the mean gain, over queries and seeds.
    """

    accuracies: tuple[float, ...]
    gains: tuple[float, ...] = ()
    interval: Interval | None = None

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def gain(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.gains))

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        found: dict[str, Any] = {}
        if self.accuracies:
            found |= {"accuracy": _rounded(self.accuracy), "accuracies": [_rounded(one) for one in self.accuracies]}
        if self.gains:
            found |= {"gain": _rounded(self.gain), "gains": [_rounded(one) for one in self.gains]}
        if self.interval is not None:
            found["interval"] = [_rounded(one) for one in self.interval]
        return found


@dataclass(frozen=True)
class Row:
    """One method in every column."""

    name: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Rows that answer one question.

    Attributes:
        key: for programs.
        title, note: for people.
        at: the place of each row on a curve; empty for a table that is none.
    """

    key: str
    title: str
    rows: tuple[Row, ...]
    note: str = ""
    at: tuple[float, ...] = ()

    def row(self, name: str) -> Row:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        rows = [{"row": row.name, **{name: cell.as_dict() for name, cell in row.cells.items()}} for row in self.rows]
        found: dict[str, Any] = {"title": self.title, "rows": rows}
        return found | ({"note": self.note} if self.note else {}) | ({"at": list(self.at)} if self.at else {})


def row_of(name: str, outcomes: Outcomes, reference: Outcomes | None, bootstrap: Bootstrap) -> Row:
    """A method's accuracies, and its gain over the reference."""
    cells = {}
    for column, correct in outcomes.items():
        accuracies = tuple(float(one) for one in correct.mean(axis=1) * 100)
        cells[column] = Cell(accuracies)
        if reference is not None:
            cells[column] = Cell(accuracies, *_gain(correct, reference[column], bootstrap))
    return Row(name, cells)


def net_row(name: str, outcomes: Outcomes, other: Outcomes, bootstrap: Bootstrap) -> Row:
    """What a method gains over another one; no accuracies."""
    return Row(name, {column: Cell((), *_gain(outcomes[column], other[column], bootstrap)) for column in outcomes})


def _gain(
    correct: NDArray[np.bool_], reference: NDArray[np.bool_], bootstrap: Bootstrap
) -> tuple[tuple[float, ...], Interval | None]:
    difference = correct.astype(np.float64) - reference  # (S, Q)
    gains = tuple(float(one) for one in difference.mean(axis=1) * 100)
    return gains, bootstrap.interval(_resampled(difference, bootstrap) * 100)


def _resampled(difference: NDArray[np.float64], bootstrap: Bootstrap) -> NDArray[np.float64]:
    """Means (R,) over queries and over seeds, both drawn with replacement."""
    seeds = len(difference)
    by_seed = bootstrap.means(difference.T)  # (R, S)
    dice = np.random.default_rng([bootstrap.seed, 1])
    weights = dice.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(by_seed)) / seeds  # (R, S)
    means: NDArray[np.float64] = (by_seed * weights).sum(axis=1)
    return means


def _rounded(value: float) -> float:
    return round(value, 3)
