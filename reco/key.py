"""`reco key new`: API keys for `reco serve`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from reco.console import stop


def new(
    name: Annotated[str, typer.Argument(help="Whose key it is, for logs and limits.", metavar="NAME")],
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="May also reload, add pairs and store label sets. Like any key but one of --only-operator, it closes "
            "the service to requests without a key.",
        ),
    ] = False,
    only_operator: Annotated[
        bool, typer.Option("--only-operator", help="May do nothing else; leaves an open service open.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="Add its line to this keys file; without it, the line is printed.")
    ] = None,
) -> None:
    """Make an API key. The key itself is shown once and kept nowhere; the keys file holds its hash.

    Name the file as RECO_API_KEYS_FILE; a running service reads it again on SIGHUP. To take a key back, delete its
    line. Example:

        reco key new web --file keys
    """
    if operator and only_operator:
        stop("--operator may use the service too, and --only-operator may not: give one of them", code=2)
    from service.door.keys import KeyScope, key_line, new_key

    secret = new_key()
    scopes: tuple[KeyScope, ...] = ("operator",) if only_operator else ("use", "operator") if operator else ("use",)
    line = key_line(name, scopes, secret)
    if file is None:
        typer.echo(f"# A line for RECO_API_KEYS_FILE; the key is on the next line, shown this once.\n{line}", err=True)
    else:
        _append(file, name, line)
        typer.echo(f"added {name} to {file}; the key, shown this once:", err=True)
    if operator:
        typer.echo(
            "with it, every request to the service needs a key; --only-operator leaves the others open", err=True
        )
    typer.echo(secret)


def _append(file: Path, name: str, line: str) -> None:
    try:
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        if any(one.split()[:1] == [name] for one in known.splitlines()):
            stop(f"{file} has a key named {name}: delete its line first, or choose another name")
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as out:
            out.write(("" if not known or known.endswith("\n") else "\n") + line + "\n")
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}")
