"""The recall of an index against the lists it looks at, as PNG and SVG. Imports matplotlib (the extra `eval`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.checks import check_matplotlib
from evaluation.errors import EvaluationError
from evaluation.plots import save_plot
from models.places import hindrance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#9ca3af", "#8f5fbf", "#3b7dd8", "#2a9d8f", "#e9a23b", "#d1495b")


def plot_index(reports: Mapping[str, Mapping[str, Any]], path: Path) -> list[Path]:
    """Draw what was measured of each index of lists, one panel a modality; the setting in use is marked.

    Args:
        reports: report.json by modality; none of an exact index.
        path: without extension, or with one, which is left off: PNG and SVG are written.

    Returns:
        The files.

    Raises:
        EvaluationError: dependency_missing, output_refused.
    """
    check_matplotlib()
    if (reason := hindrance(path.parent)) is not None:
        raise EvaluationError("output_refused", f"{reason}: name a file in another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(0.6 + 4.4 * len(reports), 4.0)
        panels = figure.subplots(1, len(reports), squeeze=False)[0]
        for axes, (modality, report) in zip(panels, reports.items(), strict=True):
            measured = report["measured"]
            settings = [setting for setting in measured["settings"] if "margin" not in setting]
            in_use = measured.get("mean_lists", measured["nprobe"])  # with a margin, queries differ in it
            probes = sorted({setting["nprobe"] for setting in settings})
            counts = sorted({setting["num_candidates"] for setting in settings})
            before = [next(s["before"] for s in settings if s["nprobe"] == nprobe) for nprobe in probes]
            axes.plot(probes, before, "--", color="#374151", linewidth=1.5, label="codes alone")
            for count, colour in zip(counts, _COLOURS, strict=False):
                line = [s["recall"] for s in settings if s["num_candidates"] == count]
                axes.plot(probes, line, color=colour, marker="o", markersize=4, label=f"{count} rows ranked")
            axes.plot(in_use, measured["recall"], "o", color="#111827", fillstyle="none", markersize=11)
            axes.axhline(report["wanted"]["recall"], color="#d1495b", linewidth=0.8)
            axes.set_xscale("log", base=2)
            axes.set_xticks(probes, [str(nprobe) for nprobe in probes])
            axes.minorticks_off()
            axes.set_title(f"{modality}: {report['factory']}, {measured['rows']:,} rows")
            axes.set_xlabel("lists looked at")
            axes.set_ylabel("recall@10 of held-out rows")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)

    name = save_plot(draw, path.stem, path.parent)
    return [path.parent / f"{name}{ending}" for ending in (".png", ".svg")]
