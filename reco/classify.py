"""`reco classify`: what is on these images, asked of a running service."""

import itertools
import json
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.label_set_words import MANY_UNKNOWN, no_weight
from reco.asking import WRONG_COMMAND, InFlight, KeyFile, Url, asking, images_in, lines_of, tell_failures
from reco.console import WIDE, say, stop

if TYPE_CHECKING:
    from reco_client import Classification, Classifications

_SHOWN_AT_ONCE = 50  # rows that wait for one another
_COLUMNS = ("image", "label", "", "without the memory")  # and the next best labels, where there is room
_IN_ITS_WORDS = " Labels that its captions mention, word for word, it knows: call things as they do, or add pairs."
_GAP = 2  # between columns
_LEAST_ROOM = 16  # for the next best labels; with less the column is left out
_SHARE = 0.3  # of a terminal's width that paths may take; of a longer one its end is shown


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", metavar="IMAGES")],
    labels: Annotated[
        list[str] | None, typer.Option(help="Separated by commas; given several times, each is one label.")
    ] = None,
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

        reco classify bird.jpg --labels "plover, grey" --labels "plover, golden"

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
    trust: Mapping[str, float] = {}

    def kept(part: "Classifications") -> "Classifications":
        nonlocal trust
        trust = part.trust or {}  # one for all parts, which have the same labels
        return part

    def answers() -> Generator[tuple[Path, "Classification"], None, None]:
        nonlocal first
        found = itertools.chain.from_iterable(map(kept, client.stream_classify(paths, **options)))
        for path, one in zip(paths, found, strict=True):
            if one.error is not None:
                failed[one.error.code] += 1
                first = first or str(path)
            yield path, one

    with asking(url, key_file, in_flight=in_flight) as client, closing(answers()) as answered:
        if as_json:
            for path, one in answered:
                typer.echo(json.dumps(_line(path, one), ensure_ascii=False))
        else:
            _show(answered, paths, compare=compare)
    if told := _why_plain(trust):
        say(told, style="yellow")
    tell_failures(failed, first)


def _why_plain(trust: Mapping[str, float]) -> str:
    """Why each answer is the frozen encoder's, and what to do; empty where the memory has a weight, or none is told."""
    if not trust or trust["text"] or trust["image"]:
        return ""
    unknown = trust["unknown_labels"]
    return no_weight(unknown) + (_IN_ITS_WORDS if unknown >= MANY_UNKNOWN else "")


def _labels(labels: list[str] | None, labels_file: Path | None, label_set: str | None) -> dict[str, Any]:
    labels = labels or None  # typer's word for an option that is not given may be an empty list
    if sum(given is not None for given in (labels, labels_file, label_set)) != 1:
        stop("name the labels once: --labels, --labels-file or --label-set", WRONG_COMMAND)
    if label_set is not None:
        return {"label_set": label_set}
    if labels_file is not None:
        return {"labels": list(lines_of(labels_file))}
    given = labels or []
    if len(given) == 1:
        if _is_file(given[0]):
            stop(f"{given[0]} is a file: --labels-file {given[0]} reads it", WRONG_COMMAND)
        given = given[0].split(",")
    return {"labels": [label.strip() for label in given if label.strip()]}


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name, or none
        return False


def _line(path: Path, one: "Classification") -> dict[str, Any]:
    if one.error is not None:
        return {"image": str(path), "error": one.error.code}
    line: dict[str, Any] = {"image": str(path)}
    for name, scores in (("", one.scores), ("original_", one.original)):
        if scores is not None:
            line[f"{name}label"] = scores.label
            line[f"{name}top"] = [asdict(best) for best in scores.top or ()]
    return line


def _show(answers: Iterator[tuple[Path, "Classification"]], paths: Sequence[Path], *, compare: bool) -> None:
    """One table, some rows at a time, so that a long job shows where it is; each row is one line.

    Columns have the width of what was shown so far, and of all `paths`: they widen where they must.
    """
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDE
    most = longest = WIDE  # characters of paths, and of labels
    if out.is_terminal:
        most = round(_SHARE * out.width)
        longest = (out.width - most - len("100.0%") - 3 * _GAP) // (2 if compare else 1)
    shown = _COLUMNS if compare else _COLUMNS[:-1]
    widths = [len(name) for name in shown]
    widths[0] = max(widths[0], *(min(most, len(str(path))) for path in paths))
    begun = False
    while rows := list(itertools.islice(answers, _SHOWN_AT_ONCE)):
        lines = [_Line.of(_end_of(str(path), most), one, longest, compare=compare) for path, one in rows]
        widths = [max(width, *(len(line.words[at]) for line in lines)) for at, width in enumerate(widths)]
        room = out.width - sum(width + _GAP for width in widths) if out.is_terminal else WIDE
        table, begun = Table(box=None, pad_edge=False, show_header=not begun), True
        for name, width in zip(shown, widths, strict=True):
            table.add_column(
                name,
                style="bold" if name == "label" else None,
                justify="left" if name else "right",
                min_width=width,
                no_wrap=True,
                overflow="ellipsis",
            )
        if room >= _LEAST_ROOM:
            table.add_column("next best", style="dim", no_wrap=True, overflow="ellipsis")
        for line in lines:
            table.add_row(*line.cells(room, compare=compare)[: len(table.columns)])
        out.print(table)


def _end_of(path: str, most: int) -> str:
    """A path in at most so many characters, the last of them: what tells images apart is the name."""
    return path if len(path) <= most else f"…{path[1 - most :]}"


def _start_of(label: str, most: int) -> str:
    """A label in at most so many characters, the first of them."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


@dataclass(frozen=True)
class _Line:
    """What is told of one image, as plain words; `others` are the next best labels, the better first."""

    path: str
    label: str
    share: str = ""
    original: str = ""
    others: tuple[str, ...] = ()
    failed: bool = False
    changed: bool = False

    @classmethod
    def of(cls, path: str, one: "Classification", longest: int, *, compare: bool) -> "_Line":
        """The words, labels in at most `longest` characters."""
        if one.error is not None or one.scores is None:
            return cls(path, "" if one.error is None else one.error.code, failed=True)
        best, *others = one.scores.top or ()
        told = tuple(f"{other.label} {other.probability:.1%}" for other in others)
        label, share = _start_of(best.label, longest), f"{best.probability:.1%}"
        if not compare or one.original is None:
            return cls(path, label, share, others=told)
        was = f" {one.original.probability:.1%}"
        original = _start_of(one.original.label, longest - len(was)) + was
        return cls(path, label, share, original, told, changed=one.original.label != best.label)

    @property
    def words(self) -> tuple[str, ...]:
        """In the order of the columns, as long as they are shown."""
        return self.path, self.label, self.share, self.original

    def cells(self, room: int, *, compare: bool) -> list[str]:
        """In the order of the columns, for rich: brackets of labels are no markup."""
        from rich.markup import escape

        label = f"[not bold red]{escape(self.label)}[/]" if self.failed else escape(self.label)
        original = f"[{'yellow' if self.changed else 'dim'}]{escape(self.original)}[/]" if self.original else ""
        cells = [escape(self.path), label, self.share, *([original] if compare else [])]
        return [*cells, escape(_fitting(self.others, room))]


def _fitting(words: Sequence[str], room: int) -> str:
    """As many of the words as there is room for."""
    told = ""
    for word in words:
        longer = f"{told}, {word}" if told else word
        if len(longer) > room:
            break
        told = longer
    return told
