"""`reco eval --ablations`: every row of the paper's ablations and every control, on a world from one path."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from reco.console import Bars, console
from reco.counted import counted

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

    from evaluation.ablations.figures import Cell, Table
    from evaluation.ablations.run import AblationConfig
    from evaluation.ablations.world import World

_INTERVAL = len("[-10.0, -10.0]")
_WIDE = 152  # also where standard error is no terminal: a log need not fold at 80


def run_ablations(path: Path, output: Path | None, config: "AblationConfig", *, as_json: bool) -> None:
    """Measure, print each table as soon as it is there, write the files.

    Raises:
        EvaluationError: world_unknown, world_invalid, world_unfinished, output_refused, dependency_missing.
    """
    from evaluation.ablations.run import ablate
    from evaluation.checks import check_matplotlib, check_output
    from evaluation.report import json_text

    if output is not None:
        check_output(output)
        check_matplotlib()
    world = _opened(path)
    with Bars() as bars:
        found = ablate(world, config, bars.update, _printer(bars))
    for reason in found.skipped:
        console.print(f"Left out: {reason}", style="yellow", markup=False)
    if output is not None:
        from evaluation.ablations.report import write_ablations

        names = write_ablations(output, found)
        console.print(f"\n{counted(len(names), 'file')} in {output}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(json_text(found.as_dict()), nl=False)


def _opened(path: Path) -> "World":
    from evaluation.errors import EvaluationError

    if path.is_dir():
        from demo.ablations import demo_world

        return demo_world(path)
    if path.suffix == ".npz" and path.is_file():
        from evaluation.ablations.fewshot import load_fewshot

        return load_fewshot(path)
    raise EvaluationError(
        "world_unknown", f"{path} is neither a folder made by `reco demo` nor a few-shot .npz: see docs/ablations.md."
    )


def _printer(bars: Bars) -> "Callable[[Table], None]":
    from rich.console import Console

    def show(table: "Table") -> None:
        bars.close()
        out = console if console.is_terminal else Console(stderr=True, width=max(console.width, _WIDE))
        out.print(_table(table, narrow=out.width < _WIDE))
        if table.note:
            out.print(table.note, style="dim", markup=False)

    return show


def _table(table: "Table", *, narrow: bool) -> "RichTable":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Rich

    rich = Rich(title=table.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    if narrow:
        rich.padding = (0, 1, 0, 0)  # four intervals beside a name
    rich.add_column("top-1 in %, gain in points [95 %]", no_wrap=not narrow)
    for column in table.rows[0].cells:
        rich.add_column(column, justify="right", min_width=_INTERVAL if narrow else None)
    for row in table.rows:
        rich.add_row(row.name, *(_cell(cell, narrow) for cell in row.cells.values()))
    return rich


def _cell(cell: "Cell", narrow: bool) -> "Text":
    """Accuracy, gain and interval, below them where the terminal is narrow; coloured where it leaves zero out."""
    from rich.text import Text

    text = Text(f"{cell.accuracy:.1f}" if cell.accuracies else "", style="bold")
    if not cell.gains:
        return text
    certain = cell.interval is not None and (cell.interval[0] > 0 or cell.interval[1] < 0)
    text.append(
        f" {cell.gain:+.2f}", style=f"not bold {'green' if cell.gain > 0 else 'red'}" if certain else "not bold dim"
    )
    if cell.interval is not None:
        apart = "\n" if narrow else " "
        text.append(f"{apart}[{cell.interval[0]:+.1f}, {cell.interval[1]:+.1f}]", style="not bold dim")
    return text
