"""docs/images/weak-names.svg from the measured ablations: python -m benchmarks.plot_weak_names"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablations-clip-vitb32.json"
SIGMAS = {0.0: "controls", 0.5: "weak_names_0.5", 1.0: "weak_names_1", 1.5: "weak_names_1.5"}
LINES = {
    "frozen CLIP": ("CLIP alone", "#6b7280", "--"),
    "Tip-Adapter / k-NN": ("Tip-Adapter", "#3b7dd8", "-"),
    "RECO (label set, both)": ("RECO", "#0b6a58", "-"),
}


def accuracies(row: str) -> list[float]:
    """Top-1 in % over the strength of the noise, 1000-way."""
    tables = json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]
    where = {**SIGMAS, **({0.0: "sides"} if row == "frozen CLIP" else {})}
    return [
        next(one for one in tables[name]["rows"] if one["row"] == row)["1000-way"]["accuracy"]
        for name in where.values()
    ]


def main() -> None:
    """Draw the plot."""
    style = {"svg.hashsalt": "reco", "svg.fonttype": "path", "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
        for row, (name, colour, dashes) in LINES.items():
            values = accuracies(row)
            width = 2.6 if name == "RECO" else 1.6
            axes.plot(list(SIGMAS), values, dashes, color=colour, marker="o", markersize=4, linewidth=width)
            axes.annotate(name, (1.5, values[-1]), xytext=(8, -3), textcoords="offset points", color=colour)
        axes.set(xlabel="noise on the names, σ", ylabel="top-1 in %, among 1,000 names", xlim=(0, 1.8), ylim=(0, 75))
        axes.set_xticks(list(SIGMAS))
        axes.grid(color="#e5e7eb")
        axes.set_axisbelow(True)
        figure.savefig(ROOT / "docs" / "images" / "weak-names.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
