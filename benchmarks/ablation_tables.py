"""Renew the tables of docs/ablations.md from the results of `reco eval --ablations`.

    python -m benchmarks.ablation_tables

A table is recognised by the names of its rows, within the chapter of its world. A test holds the page to the results.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "ablations.md"
RESULTS = Path(__file__).parent / "results"
CHAPTERS = {  # the heading under which a world's tables stand
    "## Real CLIP embeddings": "ablations-clip-vitb32.json",
    "## The field guide of `reco demo`": "ablations-demo.json",
}


def renewed(page: str) -> str:
    """The page with every table of a world as its results have it."""
    tables: list[dict[str, Any]] = []
    parts = []
    for is_table, lines in groupby(page.splitlines(), lambda line: line.startswith("|")):
        block = list(lines)
        for line in block:
            if line.startswith("## "):
                tables = _tables(CHAPTERS[line]) if line in CHAPTERS else []
        parts += list(_renewed(block, tables)) if is_table else block
    return "\n".join(parts) + "\n"


def _tables(name: str) -> list[dict[str, Any]]:
    found = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return list(found["tables"].values())


def _renewed(block: list[str], tables: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a table; of several with the same rows the first, which is then used up: they stand in order."""
    names = [line.split("|")[1].strip() for line in block[2:]]
    for table in tables:
        if [row["row"] for row in table["rows"]] == names:
            tables.remove(table)
            yield from block[:2]
            for row in table["rows"]:
                yield (
                    f"| {row['row']} | " + " | ".join(_cell(cell) for name, cell in row.items() if name != "row") + " |"
                )
            return
    yield from block


def _cell(cell: dict[str, Any]) -> str:
    """Accuracy, gain and interval, as far as they are there."""
    parts = [f"{cell['accuracy']:.1f}"] if "accuracy" in cell else []
    parts += [f"{cell['gain']:+.2f}"] if "gain" in cell else []
    parts += [f"[{cell['interval'][0]:+.1f}, {cell['interval'][1]:+.1f}]"] if "interval" in cell else []
    return " ".join(parts)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
