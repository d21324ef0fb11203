"""Ablations as files: results.json and the plots, all there or none. Imports matplotlib (the extra `eval`)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.figures import Row, Table
from evaluation.ablations.run import Ablations
from evaluation.checks import check_matplotlib
from evaluation.plots import save_plot
from evaluation.report import RESULTS, json_text, write_together

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (
    "#d1495b",
    "#3b7dd8",
    "#2a9d8f",
    "#8f5fbf",
)  # one a column; told apart by readers who do not see all colours
_BARS = ("sides", "controls", "designs", "arrangements", "harm")
_AXES = {"memory_size": "share of the memory", "neighbours": "neighbours (k)"}


def write_ablations(directory: Path, found: Ablations) -> list[str]:
    """Write results.json, a curve over memory size and over k, and bars with intervals.

    Args:
        directory: made if absent; older files of the same names are replaced, and nothing else is touched.
        found: what came out.

    Returns:
        Names of the files.

    Raises:
        EvaluationError: output_refused, dependency_missing.
    """
    check_matplotlib()

    def write(staging: Path) -> None:
        for table in found.tables:
            if table.at:
                save_plot(_curve(table), f"ablations-{table.key.replace('_', '-')}", staging)
            elif table.key in _BARS or table.key.startswith("weak_names"):
                save_plot(_bars(table), f"ablations-{table.key.replace('_', '-')}", staging)
        (staging / RESULTS).write_text(json_text(found.as_dict()), encoding="utf-8")

    return write_together(directory, write)


def _curve(table: Table) -> Callable[["Figure"], None]:
    """Accuracy over the place of the rows: mean and range of the seeds, the frozen encoder dashed."""

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(6.4, 4.2)
        axes = figure.subplots()
        for column, colour in zip(table.rows[0].cells, _COLOURS, strict=False):
            cells = [row.cells[column] for row in table.rows]
            axes.plot(table.at, [cell.accuracy for cell in cells], color=colour, marker="o", markersize=4, label=column)
            lowest, highest = ([pick(cell.accuracies) for cell in cells] for pick in (min, max))
            axes.fill_between(table.at, lowest, highest, color=colour, alpha=0.15, linewidth=0)
            frozen = [cell.accuracy - cell.gain for cell in cells]
            axes.plot(table.at, frozen, color=colour, linestyle="--", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(table.at, [f"{place:g}" for place in table.at])
        axes.minorticks_off()
        axes.set_xlabel(_AXES.get(table.key, ""))
        axes.set_ylabel("top-1, %")
        axes.set_title(f"{table.title} (dashed: frozen CLIP)")
        figure.legend(loc="outside lower center", ncols=len(table.rows[0].cells))

    return draw


def _bars(table: Table) -> Callable[["Figure"], None]:
    """The gain of each row with its interval, a panel a column."""
    rows = [row for row in table.rows if all(cell.gains for cell in row.cells.values())]

    def draw(figure: "Figure") -> None:
        columns = list(rows[0].cells)
        figure.set_size_inches(3.2 + 3.2 * len(columns), 1.2 + 0.32 * len(rows))
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column, colour in zip(panels, columns, _COLOURS, strict=False):
            gains = np.array([row.cells[column].gain for row in rows])
            style: dict[str, Any] = {"xerr": _errors(rows, column, gains), "error_kw": {"linewidth": 1}}
            axes.barh(range(len(rows)), gains, color=colour, **style)
            axes.axvline(0, color="#9ca3af", linewidth=0.8)
            axes.set_title(column)
            axes.set_xlabel("gain, points")
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
        panels[0].invert_yaxis()
        figure.suptitle(table.title)

    return draw


def _errors(rows: list[Row], column: str, gains: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(2, rows): how far the interval reaches to the left and to the right; None without intervals."""
    intervals = [row.cells[column].interval for row in rows]
    if any(interval is None for interval in intervals):
        return None
    low, high = np.array(intervals).T
    errors: NDArray[np.float64] = np.maximum(np.stack([gains - low, high - gains]), 0)
    return errors
