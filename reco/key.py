"""`reco key new` and `reco key remove`: API keys for `reco serve`."""

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

    Name the file as RECO_API_KEYS_FILE; a running service reads it again on SIGHUP. To take a key back: `reco key
    remove`. Example:

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
        typer.echo(f"added {name} to {file}; the key, on standard output this once:", err=True)
    if operator:
        typer.echo(
            "with it, every request to the service needs a key; --only-operator leaves the others open", err=True
        )
    typer.echo(secret)


def remove(
    name: Annotated[str, typer.Argument(help="Whose key is taken back.", metavar="NAME")],
    file: Annotated[Path, typer.Option(help="The keys file that has its line.")],
) -> None:
    """Take an API key back: its line in the keys file becomes a comment.

    A running service goes by it from SIGHUP or `reco operator reload` on. The file stays the one that it is, so that a
    container that it is mounted into sees the change, which it does not where an editor puts a new file in its place.
    Example:

        reco key remove web --file keys
    """
    try:
        with file.open("r+b", buffering=0) as keys:
            lines = _key_lines(keys.read().decode("utf-8"))
            mine = [place for place, line in lines if line.split()[0] == name]
            if not mine:
                stop(f"{file} has no key named {name}")
            if len(mine) == len(lines):
                stop(
                    f"{name} is the only key of {file}, and a service that finds no key goes on with those it knew: "
                    "add another first, or stop the service"
                )
            for place, line in lines:
                if place in mine:
                    _comment_out(keys.fileno(), place, line)
            os.fsync(keys.fileno())
    except (OSError, UnicodeDecodeError) as error:
        stop(f"{file} cannot be changed: {getattr(error, 'strerror', None) or error}")
    typer.echo(f"{name} is taken back in {file}; tell the running service: SIGHUP, or `reco operator reload`", err=True)


def _key_lines(text: str) -> list[tuple[int, str]]:
    """Each line that is a key's, without the space around it, and the byte of the file that it begins at."""
    found, place = [], 0
    for line in text.splitlines(keepends=True):
        words = line.lstrip("\ufeff \t")
        if words.strip() and not words.startswith("#"):
            found.append((place + len(line[: len(line) - len(words)].encode()), words.strip()))
        place += len(line.encode())
    return found


def _comment_out(file: int, place: int, line: str) -> None:
    """Make a line a comment by overwriting it, in an order in which a kill at any moment harms no other line."""
    os.pwrite(file, b"#", place)  # one byte, which cannot be written by half: from here on the key is gone
    length = len(line.encode())
    told = f"# {line.split()[0]} was taken back".encode()[:length].ljust(length)
    os.pwrite(file, told, place)


def _append(file: Path, name: str, line: str) -> None:
    try:
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        if any(one.split()[:1] == [name] for one in known.splitlines()):
            stop(f"{file} has a key named {name}: `reco key remove` it first, or choose another name")
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as out:
            out.write(("" if not known or known.endswith("\n") else "\n") + line + "\n")
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}")
