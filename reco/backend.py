"""Where a memory is kept, as options of the commands that search one: a directory, an object store, or Milvus."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import stop
from reco.memory_files import check_memory
from reco.remote import allowed, remote_memories
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from memory import SearchableMemory
    from memory.milvus import MilvusServer

FAISS, MILVUS = "faiss", "milvus"
PANEL = "Memory kept elsewhere"

Backend = Annotated[
    str,
    typer.Option(
        metavar="faiss|milvus",
        help="[bold]milvus[/]: MEMORY is the name that `reco memory push` gave it there.",
        envvar="RECO_BACKEND",
        rich_help_panel=PANEL,
    ),
]
Uri = Annotated[
    str | None,
    typer.Option(help="Of Milvus, like http://127.0.0.1:19530.", envvar="RECO_MILVUS_URI", rich_help_panel=PANEL),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="A file with Milvus' user:password or API key.", envvar="RECO_MILVUS_TOKEN_FILE", rich_help_panel=PANEL
    ),
]
PATIENCE_S = 60.0  # a command may wait for a large answer longer than a request may


@dataclass(frozen=True)
class Kept:
    """A memory by name and where that name means something."""

    where: str
    backend: str = FAISS
    uri: str | None = None
    token_file: Path | None = None
    allow_remote: list[str] | None = None
    remote_cache: Path | None = None

    def open(self) -> "SearchableMemory":
        """Open it; wrong options end the command with code 2."""
        if self.backend == FAISS:
            check_memory(self.where)
        from memory import open_memory

        if self.backend not in (FAISS, MILVUS):
            stop(f"unknown backend {self.backend!r}: choose {FAISS} or {MILVUS}", code=2)
        server = milvus_server(self.uri, self.token_file) if self.backend == MILVUS else None
        with remote_memories(self.allow_remote, self.remote_cache) as remote:
            return open_memory(self.where, milvus=server, stamps=stamp_directory(), remote=remote)

    @property
    def options(self) -> str:
        """The options that name it to `reco serve`."""
        return f"--memory {self.arguments}"

    @property
    def arguments(self) -> str:
        """What names it to a command whose argument it is."""
        elsewhere = ""
        if self.backend == MILVUS:
            from memory.milvus.connection import without_password

            elsewhere = f" --backend {MILVUS} --uri {shlex.quote(without_password(self.uri or ''))}"
        allowing = "".join(f" --allow-remote {scheme}" for scheme in allowed(self.allow_remote))
        return f"{shlex.quote(self.where)}{elsewhere}{allowing}"


def model_option() -> str:
    """` --model MODEL` for a command that is shown; nothing where RECO_MODEL says it already."""
    return "" if os.environ.get("RECO_MODEL") else " --model MODEL"


def milvus_server(uri: str | None, token_file: Path | None) -> "MilvusServer":
    """The server that the options name; without an address the command ends with code 2."""
    from memory.milvus import MilvusServer

    if uri is None:
        stop("name the server with --uri, like http://127.0.0.1:19530, or set RECO_MILVUS_URI", code=2)
    token = os.environ.get("RECO_MILVUS_TOKEN")
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8-sig").strip()
        except (OSError, ValueError) as error:
            stop(f"--token-file {token_file}: {error}", code=2)
    return MilvusServer(uri, token, timeout_s=PATIENCE_S)
