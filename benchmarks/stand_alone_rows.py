"""Renew the rows of queries that stand alone in the results of `reco eval --ablations`, and check the label sets' rows.

    python -m benchmarks.stand_alone_rows reco-demo benchmarks/results/ablations-demo.json
    python -m benchmarks.stand_alone_rows imagenet_fewshot.npz benchmarks/results/ablations-clip-vitb32.json

For a change that touches nothing but them: the whole command takes 20 minutes, most of it for rows that stay. A row of
a label set that differs from the results is told, and the results then need the whole command. Writes after each table.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.ablations.arrangement import ARRANGEMENTS, PAPER
from evaluation.ablations.bench import Bench
from evaluation.ablations.conditions import permuted_captions, pooled_with, random_memory, without_classes
from evaluation.ablations.context import ALONE, DEFAULT, Context
from evaluation.ablations.figures import Row
from evaluation.ablations.run import SIGMAS
from evaluation.ablations.weak_names import with_weak_names
from evaluation.bootstrap import Bootstrap
from evaluation.refinement import SCORINGS
from reco.ablations import _opened

log = logging.getLogger("stand_alone_rows")


def plain_rows(context: Context) -> Iterator[tuple[str, list[Row]]]:
    """Of the world as it is: by table."""
    ways = ("label set", "stand-alone")
    yield (
        "sides",
        [context.row(f"{way}: {one}", context.refined[way, one]) for way in ways for one in SCORINGS if one != "none"],
    )
    conditions = {"random neighbours": random_memory, "without the queried classes": without_classes}
    conditions["permuted captions"] = permuted_captions
    noise = context.bench.worlds[0].noise
    if noise is not None:
        conditions["pooled, noisy captions"] = pooled_with(noise)
    for name, condition in conditions.items():
        found = context.under(condition)
        yield "harm", [context.row(f"{name}: {way}", found[way, "both"]) for way in ways]
    for row in arrangement_rows(context):
        yield "arrangements", [row]


def arrangement_rows(context: Context) -> Iterator[Row]:
    """Search × fusion, each refitted."""
    for arrangement in ARRANGEMENTS:
        fitted = context.fusions if arrangement == PAPER else context.bench.fitted(arrangement=arrangement)
        yield context.row(f"{arrangement.name}: stand-alone", context.of(fitted, arrangement)[ALONE])


def weak_rows(context: Context) -> Iterator[Row]:
    """Of weak names."""
    yield context.row("RECO (label set, both)", context.default)
    yield context.row("RECO (stand-alone, both)", context.refined[ALONE])
    yield context.row("RECO, without the queried classes", context.under(without_classes)[DEFAULT])
    yield from (row for row in arrangement_rows(context) if not row.name.startswith(PAPER.name))


def renew(path: Path, table: str, rows: list[Row]) -> None:
    """Put rows of queries that stand alone into the results; tell where another one differs."""
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    places = {row["row"]: place for place, row in enumerate(told["tables"][table]["rows"])}
    for row in rows:
        cells = {name: cell.as_dict() for name, cell in row.cells.items()}
        if "stand-alone" in row.name:
            told["tables"][table]["rows"][places[row.name]] = {"row": row.name, **cells}
        elif {"row": row.name, **cells} != told["tables"][table]["rows"][places[row.name]]:
            log.warning(
                "differs: %s, %s: %s", table, row.name, {name: cell.get("gain") for name, cell in cells.items()}
            )
        log.info(
            "%s, %s: %s", table, row.name, {name: (one.get("gain"), one.get("interval")) for name, one in cells.items()}
        )
    path.write_text(layout(told) + "\n", encoding="utf-8")


def layout(value: Any, indent: str = "") -> str:
    """JSON with a line for what holds nothing deep: as the results lie in the repository."""
    if not any(_holds(part) for part in _parts(value)):
        return json.dumps(value, ensure_ascii=False)
    further = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(further + layout(part, further) for part in value) + f"\n{indent}]"
    parts = (f"{further}{json.dumps(key, ensure_ascii=False)}: {layout(part, further)}" for key, part in value.items())
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


def _parts(value: Any) -> list[Any]:
    """What a container holds; nothing of what is none."""
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def _holds(value: Any) -> bool:
    """Whether a container holds another one."""
    return any(isinstance(part, dict | list) for part in _parts(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    world, bootstrap = _opened(options.world), Bootstrap()
    for table, rows in plain_rows(Context(Bench.of(world, options.seeds), bootstrap)):
        renew(options.results, table, rows)
    for sigma in SIGMAS if world.weakenable else ():
        worlds = tuple(with_weak_names(world, sigma, seed) for seed in range(options.seeds))
        for row in weak_rows(Context(Bench(worlds), bootstrap)):
            renew(options.results, f"weak_names_{sigma:g}", [row])


if __name__ == "__main__":
    main()
