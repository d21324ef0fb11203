"""The tables of `reco eval` in the terminal. Knows the words of `evaluation`, and imports none of it when loaded."""

from typing import TYPE_CHECKING

from rich.console import Console

from reco.console import console, say
from reco.counted import counted

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from evaluation.figures import Figure, Section
    from evaluation.run import TaskResult

_WIDE = 132  # also where standard error is no terminal: a log need not fold at 80
_WITHOUT_COPIES = " without copies"
_SIDES = {"text_to_image": ("gallery", "query"), "image_to_text": ("query", "gallery")}  # what image and text are


def print_result(result: "TaskResult", num_seeds: int, *, query_only: bool = False) -> None:
    """Print everything of one task that a person should see; `query_only` leaves out rows with a refined gallery."""
    task, duplicates = result.task, result.duplicates
    names = ("text", "texts") if task.kind == "retrieval" else ("class", "classes")
    texts = counted(len(task.texts), *names)
    console.print(
        f"\n[bold]{_plain(task.name)}[/]: {task.kind}, {counted(len(task.task.images), 'image')}, "
        f"{texts}, k = {result.k}"
    )
    for code, count in sorted(task.rejected.items()):
        say(f"  {counted(count, 'row')} left out: {code}", style="yellow")
    for section in result.sections:
        say(f"\n{_title(section, num_seeds)}", style="bold")
        out = console if console.is_terminal else Console(stderr=True, width=max(console.width, _WIDE))
        out.quiet = console.quiet
        out.print(_table(section, narrow=out.width < _WIDE, query_only=query_only))
    found = f"near-duplicates (image cosine from {duplicates.cosine:g} on): "
    if len(duplicates.item_ids):
        found += f"memory items {len(duplicates.item_ids):,}, of {duplicates.images:,} of the task's images"
        measured = any(_WITHOUT_COPIES in name for section in result.sections for name in section.measures)
        if measured and not result.saw_copies:
            found += "; trust the column without copies, unless the fusion was trained on them"
        say(found, style="yellow")
    else:
        say(f"{found}none", style="dim")
    for note in result.notes:
        say(note, style="yellow")


def _title(section: "Section", num_seeds: int) -> str:
    seeds = f", mean of {num_seeds} fusions ± half their range" if num_seeds > 1 else ""
    return f"{section.title}: {section.asked}; in %{seeds}"


def _table(section: "Section", *, narrow: bool, query_only: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("refined", no_wrap=True)
    for name in section.measures:
        table.add_column(name.replace(" without ", "\nwithout ").replace("median ", "median\n"), justify="right")
    chances = [section.chance.get(name.removesuffix(_WITHOUT_COPIES)) for name in section.measures]
    table.add_row("chance", *("" if one is None else f"{one:.1f}" for one in chances), style="dim")
    scorings = [
        scoring
        for scoring in next(iter(section.measures.values()))
        if not query_only or scoring == "none" or _label(section.name, scoring).endswith("query only")
    ]
    for scoring in scorings:
        cells = [
            _cell(
                measure[scoring],
                name in section.lower_is_better,
                narrow,
                name.removesuffix(_WITHOUT_COPIES) == section.headline,
            )
            for name, measure in section.measures.items()
        ]
        table.add_row(_label(section.name, scoring), *cells, style="dim" if scoring == "none" else "")
    return table


def _label(section: str, scoring: str) -> str:
    """`image` and `text`, and in a retrieval which of them is the query."""
    if section in _SIDES and scoring in ("image", "text"):
        return f"{scoring}: {_SIDES[section][scoring == 'text']} only"
    return {"none": "none: frozen CLIP", "ensemble": "sum of the four"}.get(scoring, scoring)


def _cell(figure: "Figure", lower_is_better: bool, narrow: bool, headline: bool) -> "Text":
    """Value and spread; below them the gain and its interval, coloured where the interval leaves zero out.

    Where the terminal is narrow each has a line of its own, and only the headline its interval.
    """
    from rich.text import Text

    from evaluation.gallery import signed

    cell, apart = Text(f"{figure.mean:.1f}", style="bold"), "\n" if narrow else " "
    if figure.spread:
        cell.append(f"{apart}±{figure.spread:.1f}", style="not bold")
    if figure.gain is None:
        return cell
    better = (figure.gain > 0) != lower_is_better
    certain = figure.interval is not None and (figure.interval[0] > 0 or figure.interval[1] < 0)
    style = ("green" if better else "red") if certain else "dim"
    cell.append(f"\n{signed(figure.gain)}", style=f"not bold {style}")
    if figure.interval is not None and (headline or not narrow):
        low, high = map(signed, figure.interval)
        cell.append(f"{apart}[{low}, {high}]", style="not bold dim")
    return cell


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
