"""`reco`: registers the commands. Imports typer only; each command imports what it needs when it runs, so that
`reco --help` answers at once and loads no torch."""

import errno
import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from reco import (
    bench,
    build,
    classify,
    demo,
    doctor,
    embed,
    inspect,
    key,
    memory_changes,
    memory_push,
    operate,
    serve,
    train,
    train_encoder,
)
from reco import eval as eval_command
from reco.console import STOPPED, console, stop
from reco.front_page import FrontPage
from reco.help_text import flowing, help_of
from reco.open_files import allow_many_files

_HELP = """RECO: your CLIP, plus a memory.

[bold]reco demo[/] shows everything and needs nothing. Then your own pairs, in this order:

  reco build photos/ -o my-memory --model MODEL         pairs to a memory
  reco train my-memory -o my-fusion --names names.txt   learn to use it
  reco eval my-memory my-fusion test/ --model MODEL     see what it is worth
  reco serve --memory my-memory --fusion my-fusion --model MODEL

[bold]reco embed[/], [bold]classify[/] and [bold]bench[/] ask a service that runs.

Every command may be stopped with Ctrl-C and given again; [bold]reco doctor[/] says what this machine has and lacks;
[bold]reco COMMAND --help[/] has examples. MODEL is a model directory, or an open_clip name such as ViT-B-32 with
--pretrained."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAKE_ROOM = ": make room, or write elsewhere, and give the same command again"

app = typer.Typer(
    name="reco",
    cls=FrontPage,
    help=flowing(_HELP),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
key_app = typer.Typer(help="API keys for the service.", no_args_is_help=True)
operator_app = typer.Typer(help="Change what a running service knows.", no_args_is_help=True)
memory_app = typer.Typer(help="Look at a memory, check it, change it.", no_args_is_help=True)

_COMMANDS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("demo", demo.demo),
    ("build", build.build),
    ("train", train.train),
    ("eval", eval_command.evaluate),
    ("serve", serve.serve),
    ("embed", embed.embed),
    ("classify", classify.classify),
    ("bench", bench.bench),
    ("doctor", doctor.doctor),
)
_CLASSES = {"train": train_encoder.TrainCommand}
for _name, _command in _COMMANDS:
    app.command(_name, cls=_CLASSES.get(_name), help=help_of(_command))(_command)
_MEMORY_COMMANDS: tuple[Callable[..., Any], ...] = (
    inspect.info,
    inspect.verify,
    inspect.diff,
    memory_changes.remove,
    memory_changes.compact,
    memory_changes.purge,
    memory_changes.gc,
    memory_changes.rollback,
    memory_push.push,
)
for _command in _MEMORY_COMMANDS:
    memory_app.command(_command.__name__, help=help_of(_command))(_command)
app.add_typer(memory_app, name="memory")
for _name, _command in (
    ("add", operate.add),
    ("list", operate.listed),
    ("remove", operate.remove),
    ("reload", operate.reload),
):
    operator_app.command(_name, help=help_of(_command))(_command)
app.add_typer(operator_app, name="operator")
for _command in (key.new, key.remove):
    key_app.command(_command.__name__, help=help_of(_command))(_command)
app.add_typer(key_app, name="key")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"reco {version('reco-clip')}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Before any command: say nothing but its answer and what went wrong.")
    ] = False,
) -> None:
    """What holds for no command in particular."""
    console.quiet = quiet
    from models.cores import bound_openmp

    bound_openmp()
    allow_many_files()


def main() -> None:
    """Run a command; what our own rooms refuse, and a file that cannot be used, ends as a sentence and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it cannot say, as of a file's name that is no text, is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        # Typer turns Ctrl-C into an exit; a command that handled the signal itself has said its sentence already.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            stop("stopped. Nothing is left half-written: the same command may be given again.", STOPPED)
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        if isinstance(error, OSError) and (error.filename or error.errno in _NO_ROOM):
            where = f"{error.filename}: " if error.filename else ""
            stop(f"{where}{error.strerror}{_MAKE_ROOM if error.errno in _NO_ROOM else ''}")
        if not isinstance(code, str):
            raise
        stop(f"{code}: {getattr(error, 'message', error)}")


if __name__ == "__main__":
    main()
