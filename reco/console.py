"""What commands say and how: one console on standard error, progress bars, and a plain way to stop."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.markup import escape

from reco.counted import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

console = Console(stderr=True, highlight=False)
STOPPED = 130  # exit code: 128 + SIGINT
WIDE = 1000  # columns where nobody folds: in a pipe a row is a line
_LONG_BAR = 110  # columns of a terminal that has room for one


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A progress display with count, rate and time left; plain when standard error is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
    )
    from rich.table import Column

    from reco.rate_column import RateColumn, TimeColumn

    whole = Column(no_wrap=True)
    columns = (
        SpinnerColumn(),
        # Where the terminal is narrow it is the words that are cut, not the numbers.
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=28 if console.width >= _LONG_BAR else 8),
        MofNCompleteColumn(table_column=whole),
        RateColumn(table_column=whole),
        TimeColumn(table_column=whole),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        yield progress


def say(sentence: str, style: str | None = None) -> None:
    """A sentence as it is: folded between words on a terminal, on one line in a log."""
    console.print(sentence, style=style, soft_wrap=not console.is_terminal, markup=False)


def loading(what: str) -> None:
    """Say what is loaded next, if that takes seconds: torch and what needs it; nothing where it is there already."""
    if "torch" not in sys.modules:
        with suppress(OSError):  # a log on a full disk is no reason not to serve
            say(f"loading {what}", style="dim")


def stop(message: str, code: int = 1) -> NoReturn:
    """Print one sentence, also under --quiet, and leave with an exit code."""
    console.quiet = False
    console.print(f"[bold red]reco:[/] {escape(message)}", soft_wrap=True)  # a path may hold brackets
    raise SystemExit(code)


def refuse(error: Exception) -> NoReturn:
    """End with one sentence and code 2 on what our rooms refuse; anything else is a bug and goes on as it is."""
    code = getattr(error, "code", None)
    if not isinstance(code, str):
        raise error
    stop(f"{code}: {getattr(error, 'message', error)}", code=2)


def step(title: str) -> None:
    """Announce a step of a longer command."""
    console.print(f"\n[bold]{title}[/]")


class Bar:
    """One progress bar that opens with its first report and closes with its last."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show `done` of `total`, with a note beside the title."""
        if total == 0:
            return
        if self._progress is None:
            self._progress = self._stack.enter_context(progress_bar())
            self._task = self._progress.add_task(self._title, total=total)
        description = f"{self._title}, {note}" if note else self._title
        assert self._task is not None
        self._progress.update(self._task, completed=done, description=description)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands; the next report opens a new one."""
        self._stack.close()
        self._progress = None


class Bars:
    """A bar for whatever is going on, one after the other; closed on the way out, also by an error."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._title = ""

    def update(self, title: str, done: int, total: int) -> None:
        """Show `done` of `total` of what `title` says."""
        if self._bar is None or title != self._title:
            self.close()
            self._bar, self._title = Bar(title), title
        self._bar.update(done, total)

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def waits(seconds: Mapping[str, float]) -> str:
    """What share of its time an encoder is at work, and what it waits for in the rest."""
    total = seconds.get("total", 0.0)
    if not total:
        return ""
    shares = {stage: seconds.get(stage, 0.0) / total for stage in ("encode", "decode", "copy")}
    shares["disk"] = max(0.0, 1 - sum(shares.values()))
    busy = shares.pop("encode")
    longest = " ".join(f"{what} {share:.0%}" for what, share in shares.items() if share >= 0.005)
    return f"encoder busy {busy:.0%}" + (f", waits {longest}" if longest else "")


class BuildProgress:
    """The builder's progress as a bar: rows, rate, time left, and how many rows were rejected."""

    def __init__(self, title: str = "encoding") -> None:
        self._bar = Bar(title)
        self._total = self._done = self._rejected = 0
        self._waits = ""

    def stage(self, name: str) -> None:
        """Say which stage has begun; encoding and reading show their own bar."""
        if name not in ("plan", "encode", "read"):
            console.print(f"  {name}", style="dim")

    def start(self, total_rows: int) -> None:
        """The rows are gone through from here."""
        self._total, self._done, self._rejected = total_rows, 0, 0

    def kept(self, units: int, rows: int, images: int) -> None:
        """An earlier run left this."""
        done = f"{counted(rows, 'row')} in {counted(units, 'unit')}" if units else ""
        begun = f"{counted(images, 'image')} of a unit that was begun" if images else ""
        console.print(f"kept of an earlier run: {', '.join(filter(None, (done, begun)))}")

    def advance(self, rows: int, rejected: int) -> None:
        """Some more rows were read."""
        self._done += rows
        self._rejected += rejected
        notes = [f"{self._rejected:,} rejected" if self._rejected else "", self._waits]
        self._bar.update(self._done, self._total, ", ".join(filter(None, notes)))

    def lanes(self, seconds: Mapping[str, float]) -> None:
        """Where the encoder's time went."""
        self._waits = waits(seconds)

    def done(self) -> None:
        """The build is over."""
        self._bar.close()
