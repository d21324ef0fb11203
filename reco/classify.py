"""`reco classify`: what is on these images, asked of a running service."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.asking import WRONG_COMMAND, InFlight, KeyFile, Url, asking, images_in, lines_of, tell_failures
from reco.console import stop

if TYPE_CHECKING:
    from reco_client import Classification

_SHOWN_AT_ONCE = 50  # rows of a table whose columns are fitted to them
_WIDE = 1000  # columns where nobody folds: in a pipe a row is a line
_SHARE = 0.3  # of a terminal's width that paths may take; of a longer one its end is shown


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", metavar="IMAGES")],
    labels: Annotated[str | None, typer.Option(help="Separated by commas.")] = None,
    labels_file: Annotated[Path | None, typer.Option(help="A label a line; - is standard input.")] = None,
    label_set: Annotated[str | None, typer.Option(help="The name of a label set of the service.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="A prompt with {} for the label; may be given several times.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to tell for each image.")] = 3,
    enhance: Annotated[str | None, typer.Option(help="What is refined: both, image, text or none.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Tell the frozen encoder's answer beside it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: a line of JSON for each image.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    in_flight: InFlight = 8,
) -> None:
    """Classify images against labels with a running service.

    What cannot be classified is told with its code, and the exit code is then 1. Examples:

        reco classify bird.jpg --labels "puffin,razorbill,guillemot"

        reco classify photos/ --labels-file species.txt --compare

        reco classify photos/ --label-set seabirds --json > answers.jsonl
    """
    options: dict[str, Any] = {
        **_labels(labels, labels_file, label_set),
        "top_k": top,
        "compare": compare,
        "on_error": "partial",
    }
    if enhance is not None:
        options["enhance"] = enhance
    if template:
        options["templates"] = template
    paths = images_in(images)
    failed: Counter[str] = Counter()
    first = ""

    def answers() -> Iterator[tuple[Path, "Classification"]]:
        nonlocal first
        found = itertools.chain.from_iterable(client.stream_classify(paths, **options))
        for path, one in zip(paths, found, strict=True):
            if one.error is not None:
                failed[one.error.code] += 1
                first = first or str(path)
            yield path, one

    with asking(url, key_file, in_flight=in_flight) as client:
        if as_json:
            for path, one in answers():
                typer.echo(json.dumps(_line(path, one), ensure_ascii=False))
        else:
            _show(answers(), compare=compare)
    tell_failures(failed, first)


def _labels(labels: str | None, labels_file: Path | None, label_set: str | None) -> dict[str, Any]:
    if sum(given is not None for given in (labels, labels_file, label_set)) != 1:
        stop("name the labels once: --labels, --labels-file or --label-set", WRONG_COMMAND)
    if label_set is not None:
        return {"label_set": label_set}
    if labels_file is not None:
        return {"labels": list(lines_of(labels_file))}
    return {"labels": [label.strip() for label in (labels or "").split(",") if label.strip()]}


def _line(path: Path, one: "Classification") -> dict[str, Any]:
    if one.error is not None:
        return {"image": str(path), "error": one.error.code}
    line: dict[str, Any] = {"image": str(path)}
    for name, scores in (("", one.scores), ("original_", one.original)):
        if scores is not None:
            line[f"{name}label"] = scores.label
            line[f"{name}top"] = [asdict(best) for best in scores.top or ()]
    return line


def _show(answers: Iterator[tuple[Path, "Classification"]], *, compare: bool) -> None:
    """Tables of some rows at a time, so that a long job shows where it is."""
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = _WIDE
    while rows := list(itertools.islice(answers, _SHOWN_AT_ONCE)):
        table = Table(box=None, pad_edge=False)
        table.add_column("image", no_wrap=True)
        table.add_column("label", style="bold", overflow="fold")
        table.add_column("", justify="right")
        table.add_column("next best", style="dim", overflow="fold")
        if compare:
            table.add_column("without the memory", overflow="fold")
        most = round(_SHARE * out.width) if out.is_terminal else None
        for path, one in rows:
            table.add_row(*_cells(_end_of(str(path), most), one, compare=compare))
        out.print(table)


def _end_of(path: str, most: int | None) -> str:
    """A path in at most so many characters, the last of them: what tells images apart is the name."""
    return path if most is None or len(path) <= most else f"…{path[1 - most :]}"


def _cells(path: str, one: "Classification", *, compare: bool) -> Sequence[str]:
    from rich.markup import escape

    if one.error is not None or one.scores is None:
        code = "" if one.error is None else one.error.code
        return [escape(path), f"[red]{code}[/]", "", "", ""][: 5 if compare else 4]
    best, *others = one.scores.top or ()
    cells = [
        escape(path),
        escape(best.label),
        f"{best.probability:.1%}",
        ", ".join(f"{escape(other.label)} {other.probability:.1%}" for other in others),
    ]
    if compare and one.original is not None:
        style = "dim" if one.original.label == best.label else "yellow"
        cells.append(f"[{style}]{escape(one.original.label)} {one.original.probability:.1%}[/]")
    return cells
