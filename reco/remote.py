"""Object stores as options: which may be read, and where memories from them are copied to (docs/object-stores.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.console import Bar, stop
from reco.memory_files import check_memory
from reco.stamps import copy_directory, stamp_directory

if TYPE_CHECKING:
    from memory import RemoteMemories

PANEL = "Object stores"

AllowRemote = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCHEME",
        help="Read addresses of this kind: s3, gs, az, abfs or hf. Without it no address is fetched. Repeatable.",
        envvar="RECO_ALLOW_REMOTE",
        rich_help_panel=PANEL,
    ),
]
RemoteCache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where memories are copied to before they are opened. [~/.cache/reco/memories]",
        envvar="RECO_REMOTE_CACHE",
        rich_help_panel=PANEL,
    ),
]


def allowed(schemes: list[str] | None) -> tuple[str, ...]:
    """The schemes that --allow-remote and its variable name."""
    from memory.stores import named_schemes

    return named_schemes(*schemes or ())


@contextmanager
def remote_memories(schemes: list[str] | None, cache: Path | None) -> "Iterator[RemoteMemories]":
    """What may be fetched, with a bar that shows how far it is."""
    from memory import RemoteMemories

    bar = Bar("fetching, MB")
    try:
        yield RemoteMemories(
            allowed(schemes),
            cache or copy_directory(),
            stamps=stamp_directory(),
            report=lambda done, total: bar.update(done // 1_000_000, total // 1_000_000),
        )
    finally:
        bar.close()


def local_memory(memory: str, schemes: list[str] | None, cache: Path | None) -> Path:
    """The directory of a memory that is named by a path or an address."""
    check_memory(memory)
    from memory import local_copy

    with remote_memories(schemes, cache) as remote:
        return local_copy(memory, remote)


def output_option(what: str, metavar: str) -> Any:
    """`-o` of what is written to a folder, and never to an object store."""
    return typer.Option("--output", "-o", help=what, metavar=metavar, parser=_only_a_folder)


def _only_a_folder(path: str) -> Path:
    if "://" in path:
        stop(f"{path}: an object store is only read. Write to a folder, and upload that", code=2)
    return Path(path)


def only_local(memory: str) -> Path:
    """A memory that is to be changed, which is no object store's."""
    check_memory(memory)
    from memory import is_address

    if is_address(memory):
        stop(f"{memory}: a memory in an object store is only read. Change the directory it was uploaded from", code=2)
    return Path(memory)
