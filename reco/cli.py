"""`reco`: registers the commands. Imports typer only; each command imports what it needs when it runs, so that
`reco --help` answers at once and loads no torch."""

from collections.abc import Callable
from typing import Any

import typer

from reco import build, demo, inspect, key, memory_changes, serve, train, train_encoder
from reco import eval as eval_command
from reco.console import stop

app = typer.Typer(
    name="reco",
    help="RECO: your CLIP, plus a memory. Start with [bold]reco demo[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
key_app = typer.Typer(help="API keys for the service.", no_args_is_help=True)
memory_app = typer.Typer(help="Look at a memory, check it, change it.", no_args_is_help=True)

_COMMANDS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("demo", demo.demo),
    ("build", build.build),
    ("train", train.train),
    ("eval", eval_command.evaluate),
    ("serve", serve.serve),
)
_CLASSES = {"train": train_encoder.TrainCommand}
for _name, _command in _COMMANDS:
    app.command(_name, cls=_CLASSES.get(_name))(_command)
_MEMORY_COMMANDS: tuple[Callable[..., Any], ...] = (
    inspect.info,
    inspect.verify,
    inspect.diff,
    memory_changes.remove,
    memory_changes.compact,
    memory_changes.purge,
    memory_changes.gc,
    memory_changes.rollback,
)
for _command in _MEMORY_COMMANDS:
    memory_app.command(_command.__name__)(_command)
app.add_typer(memory_app, name="memory")
key_app.callback()(lambda: None)  # with one command, typer would make the group that command
key_app.command("new")(key.new)
app.add_typer(key_app, name="key")


def main() -> None:
    """Run a command; what our own rooms refuse ends as one sentence and exit code 1, not as a traceback."""
    try:
        app()
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str):
            raise
        stop(f"{code}: {getattr(error, 'message', error)}")


if __name__ == "__main__":
    main()
