"""How opening, searching and indexing grow with the memory, on generated rows, each with the index that RECO chooses.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.index_growth /path/to/clip_vitb32 --work DIRECTORY

Rows as index_families.py generates them, one memory for each number of rows in DIRECTORY (5 M pairs take 11 GB). What
was generated there is taken as it is; --ask-only asks what was indexed before. Writes
benchmarks/results/index-growth.json, where other numbers of rows keep their figures, and docs/images/index-growth.svg.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.index_families import GENERATED, generated
from benchmarks.measured_on import measured_on
from evaluation.plots import save_plot

log = logging.getLogger("index_growth")
RESULTS = Path(__file__).parent / "results" / "index-growth.json"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
ROWS = (10_000, 20_000, 50_000, 100_000, 300_000, 1_000_000, 5_000_000)
_COLOURS = {"image": "#3b7dd8", "text": "#d1495b"}


def measure(arguments: argparse.Namespace, rows: int) -> dict[str, Any]:
    """One row of the table; with --ask-only of what was built before, with --build-only none."""
    place = arguments.work / str(rows)
    place.mkdir(parents=True, exist_ok=True)
    wanted = argparse.Namespace(
        data=arguments.data,
        rows=rows,
        work=place,
        families=("auto",),
        as_built=arguments.ask_only,
        build_only=arguments.build_only,
    )
    families = generated(wanted)["families"]
    if not families:
        return {}
    [family] = families
    return {
        "rows": rows,
        **{name: family[name] for name in family if name.startswith(("index_seconds", "of_processor"))},
        "opening": family["opening"],
        **{modality: family[modality] for modality in _COLOURS},
    }


def draw(table: list[dict[str, Any]]) -> None:
    """Median and 95th percentile of single queries against rows."""

    def plot(figure: Any) -> None:
        figure.set_size_inches(8.0, 4.4)
        axes = figure.subplots()
        rows = [row["rows"] for row in table]
        for modality, colour in _COLOURS.items():
            for quantile, style in (("p50", "-"), ("p95", ":")):
                values = [row[modality]["single_ms"][quantile] for row in table]
                axes.plot(rows, values, style, marker="o", markersize=4, color=colour, label=f"{modality}, {quantile}")
        for row in table:
            recall = min(row[modality]["recall_at_10"] for modality in _COLOURS)
            top = max(row[modality]["single_ms"]["p95"] for modality in _COLOURS)
            kind = row["text"]["factory"].removeprefix("RR512,")
            axes.annotate(f"{kind}\n≥ {recall:.3f}", (row["rows"], top), (0, 8), textcoords="offset points",
                          ha="center", fontsize=7, color="#374151")  # fmt: skip
        axes.axhline(2, color="#9ca3af", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="pairs in the memory; above, index and recall@10")
        axes.set(ylabel="one query, ms", ylim=(0.2, 12))
        axes.set_xticks(rows, [f"{count:,}" for count in rows], fontsize=8)
        axes.set_yticks([0.2, 0.5, 1, 2, 5, 10], ["0.2", "0.5", "1", "2", "5", "10"])
        axes.minorticks_off()
        axes.margins(x=0.08)
        figure.legend(loc="outside right center", fontsize=8)

    save_plot(plot, "index-growth", IMAGES, forms=("svg",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--build-only", action="store_true", help="index, and ask later with --ask-only")
    parser.add_argument("--ask-only", action="store_true", help="ask the memories as the last run left them")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    before = json.loads(RESULTS.read_text())["growth"] if RESULTS.exists() else []
    table = {row["rows"]: row for row in before}
    for rows in arguments.rows:
        if arguments.ask_only and not (arguments.work / str(rows) / GENERATED).exists():
            continue
        if told := measure(arguments, rows):
            table[rows] = {**table.get(rows, {}), **told}
            log.info("%s", json.dumps(table[rows], indent=1))
    if arguments.build_only:
        return
    ordered = [table[rows] for rows in sorted(table)]
    result = {
        **measured_on(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "growth": ordered,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    draw(ordered)


if __name__ == "__main__":
    main()
