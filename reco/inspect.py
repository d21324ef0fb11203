"""`reco memory info` and `reco memory verify`: what a memory holds, and whether it is whole."""

import json
from pathlib import Path
from typing import Annotated

import typer

from reco.console import console, stop
from reco.stamps import stamp_directory

MemoryPath = Annotated[Path, typer.Argument(help="A memory made by `reco build`.", metavar="MEMORY")]


def info(memory: MemoryPath) -> None:
    """Print version, items, shards, encoder and sizes of a memory, as JSON."""
    from memory import Memory

    typer.echo(json.dumps(Memory.open(memory, stamps=stamp_directory()).describe(), indent=2))


def verify(
    memory: MemoryPath,
    full: Annotated[bool, typer.Option("--full", help="Hash every file again; otherwise sizes only.")] = False,
) -> None:
    """Check the files of a memory against its manifest; exit code 1 and the list of what is broken."""
    from memory import verify_memory

    report = verify_memory(memory, full=full)
    for problem in report.problems:
        console.print(f"[red]{problem.code}[/] {problem.detail}", soft_wrap=True)
    if not report.ok:
        stop(f"{len(report.problems)} of {report.num_files} files are not what the manifest says: restore or rebuild")
    checked = "sizes, hashes and vectors" if full else "sizes"
    console.print(
        f"version {report.version}: {report.num_files} files, {report.num_bytes:,} bytes; {checked} are right"
    )
