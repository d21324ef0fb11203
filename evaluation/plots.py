"""The plots of a task, as PNG and SVG. Imports matplotlib (the extra `eval`), without a display."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.curves import Point
from evaluation.refinement import SCORINGS, Mode, Scoring
from evaluation.run import TaskResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: dict[Scoring, str] = {  # told apart by readers who do not see all colours
    "none": "#6b7280",
    "image": "#3b7dd8",
    "text": "#2a9d8f",
    "both": "#d1495b",
    "ensemble": "#8f5fbf",
}
_GAIN, _LOSS = "#2a9d8f", "#d1495b"
_NAMED = 10  # best and worst classes that are named
_METADATA: Any = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # nothing of when or by whom
_STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "reco",  # the same figures give the same file
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class name may hold a dollar sign
}


def draw_plots(result: TaskResult, mode: Mode, directory: Path) -> list[str]:
    """Draw every plot that a task has.

    Args:
        result: of the task.
        mode: whose gain the plot of the classes shows.
        directory: gets `<task>-<plot>.png` and `.svg`.

    Returns:
        The names of the plots, without extension.
    """
    names = []
    curved = {name for point in (*result.memory_size, *result.neighbours) for name in point.values}
    titles = {one.name: f"{one.title}, {one.headline}" for one in result.sections if one.name in curved}
    if result.memory_size:
        draw = _curves(result.memory_size, titles, "items in the memory", logarithmic=True)
        names.append(save_plot(draw, f"{result.task.slug}-memory-size", directory))
    if result.neighbours:
        draw = _curves(result.neighbours, titles, "neighbours (k)", logarithmic=False)
        names.append(save_plot(draw, f"{result.task.slug}-neighbours", directory))
    if result.per_class and mode != "none":
        names.append(save_plot(_classes(result, mode), f"{result.task.slug}-classes", directory))
    return names


def save_plot(
    draw: Callable[["Figure"], None], name: str, directory: Path, *, forms: Sequence[str] = ("png", "svg")
) -> str:
    """Draw one figure in the house style, as PNG and SVG or one of them; returns its name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # no pyplot: no display is asked for, and no figure stays open

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks shows as boxes
        figure = Figure(layout="constrained")
        draw(figure)
        for form in forms:
            figure.savefig(directory / f"{name}.{form}", metadata=_METADATA[form])
    return name


def _curves(
    points: Sequence[Point], titles: dict[str, str], label: str, *, logarithmic: bool
) -> Callable[["Figure"], None]:
    def draw(figure: "Figure") -> None:
        figure.set_size_inches(0.6 + 4.4 * len(titles), 4.0)
        panels = figure.subplots(1, len(titles), squeeze=False)[0]
        for axes, (section, title) in zip(panels, titles.items(), strict=True):
            at = [point.at for point in points]
            for scoring in SCORINGS:
                values = [point.values[section][scoring] for point in points]
                line: dict[str, Any] = {"color": _COLOURS[scoring], "label": scoring}
                frozen = {"linestyle": "--", "linewidth": 1.5}
                axes.plot(at, values, **line, **(frozen if scoring == "none" else {"marker": "o", "markersize": 4}))
            axes.set_title(title)
            axes.set_xlabel(label)
            axes.set_ylabel("%")
            _ticks(axes, at, logarithmic)
        handles, labels = panels[0].get_legend_handles_labels()
        # One panel is narrower than five entries at matplotlib's own spacing: the legend was cut off at both ends.
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(SCORINGS), columnspacing=1.2, handlelength=1.5
        )

    return draw


def _ticks(axes: "Axes", at: list[int], logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xticks(at, [f"{items:,}" for items in at])
        axes.minorticks_off()
    else:
        axes.set_xticks(at)


def _classes(result: TaskResult, mode: Mode) -> Callable[["Figure"], None]:
    ordered = sorted(result.per_class, key=lambda row: row[mode] - row["none"])
    gains = np.array([row[mode] - row["none"] for row in ordered])

    def draw(figure: "Figure") -> None:
        named = [*range(min(_NAMED, len(ordered)))]
        named += [row for row in range(len(ordered) - _NAMED, len(ordered)) if row > named[-1]]
        figure.set_size_inches(10.0, max(3.2, 1.2 + 0.24 * len(named)))
        overview, best_and_worst = figure.subplots(1, 2, width_ratios=[1.1, 1])
        edges = np.arange(len(gains) + 1) - 0.5  # one shape for all: 20,000 bars took half a minute
        for side, colour in ((np.minimum(gains, 0), _LOSS), (np.maximum(gains, 0), _GAIN)):
            overview.stairs(side, edges, fill=True, color=colour)
        better, worse = int((gains > 0).sum()), int((gains < 0).sum())
        overview.set_title(f"{better:,} classes better, {worse:,} worse, {len(gains) - better - worse:,} as before")
        overview.set_xlabel("classes, by gain")
        overview.set_ylabel(f"gain of {mode} over none, points")
        overview.axhline(0, color="#9ca3af")
        # By position, not by name: two classes may share one.
        best_and_worst.barh(range(len(named)), gains[named], color=np.where(gains[named] < 0, _LOSS, _GAIN))
        rows = [ordered[row] for row in named]
        best_and_worst.set_yticks(
            range(len(named)), [f"{_short(row['class'])}  ({row['none']:.0f} → {row[mode]:.0f})" for row in rows]
        )
        best_and_worst.set_title("best and worst" if len(named) < len(ordered) else "every class")
        best_and_worst.set_xlabel("gain, points")
        best_and_worst.axvline(0, color="#9ca3af", linewidth=0.8)
        best_and_worst.grid(axis="y", visible=False)

    return draw


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
