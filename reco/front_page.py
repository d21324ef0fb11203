"""`reco --help`: what there is, in the order one needs it.

Typer's own page imports a Markdown parser and a syntax highlighter first, a third of the time that `reco --help` may
take. This one is drawn with the console that commands have anyway; the pages of commands are typer's.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer import Context

_SECTIONS = {
    "Make": ("demo", "build", "train", "eval", "serve"),
    "Ask": ("embed", "classify", "operator", "bench"),
    "Keep": ("doctor", "memory", "key"),
}


class FrontPage(TyperGroup):
    """The group of all commands, whose help is a page of its own."""

    def format_help(self, ctx: "Context", formatter: Any) -> None:  # type: ignore[override]  # typer keeps click's private
        """Print the page; `formatter` is click's and stays unused, as in typer."""
        console = Console(highlight=False, emoji=False)
        console.print(Padding(f"[yellow]Usage:[/] [bold]{ctx.command_path} COMMAND ...[/]", 1))
        console.print(Padding(self.help or "", (0, 1, 1, 1)))
        width = max(len(name) for name in self.commands)
        for title, names in _SECTIONS.items():
            rows = [(name, _first_sentence(self.commands[name].help)) for name in names]
            console.print(_panel(title, rows, width))
        options = [(", ".join(param.opts), getattr(param, "help", "")) for param in self.get_params(ctx)]
        console.print(_panel("Options", options, max(len(name) for name, _ in options)))


def _panel(title: str, rows: Sequence[tuple[str, str]], width: int) -> Panel:
    table = Table(show_header=False, box=None, expand=True, pad_edge=False, padding=(0, 1))
    table.add_column(style="bold cyan", no_wrap=True, width=width)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style="dim")


def _first_sentence(help_text: str | None) -> str:
    return (help_text or "").split("\n\n", 1)[0]
