"""How `reco memory` answers: a table on standard output for people, or JSON for machines."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from reco.counted import counted

if TYPE_CHECKING:
    from memory import Manifest

Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON object on standard output.")]


def megabytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e6:,.1f} MB"


def index_line(index: Mapping[str, Any]) -> str:
    """One index for people: what it is, how it is searched, and the recall that was measured."""
    shards = f"{counted(index['num_shards'], 'shard')}, {megabytes(index['bytes'])}"
    if index["recall"] is None:
        return f"exact, {shards}"
    recall, search = index["recall"], index["search"]
    lists = ("" if "margin" not in search else "up to ") + counted(search["nprobe"], "list")
    return (
        f"{index['factory']}, {shards}; looks at {lists} and ranks {counted(search['num_candidates'], 'row')}: "
        f"recall@{recall['k']} {recall['recall']:.4f} ({recall['before']:.4f} by codes alone), measured at "
        f"{counted(recall['rows'], 'row')}"
    )


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(value, indent=2))


def show_table(title: str, rows: Iterable[tuple[str, str]], *, next_step: str = "") -> None:
    """Print names beside values, and what to do next."""
    lines = list(rows)
    width = max((len(name) for name, _ in lines), default=0)
    out = Console(highlight=False, soft_wrap=True)  # a digest or a path is never cut, nor wrapped in a pipe
    out.print(f"[bold]{escape(title)}[/]")
    for name, value in lines:
        out.print(f"  [cyan]{escape(name.ljust(width))}[/]  {escape(value)}")
    if next_step:
        out.print(f"next: {escape(next_step)}")


def show_lines(lines: Iterable[str]) -> None:
    """Print a list, one entry a line, as it is."""
    for line in lines:
        typer.echo(line)


def contents_of(manifest: "Manifest") -> dict[str, Any]:
    """What a version is, in a few numbers."""
    num_bytes = sum(file.bytes for file in manifest.files)
    return {"version": manifest.version, "digest": manifest.digest, **manifest.counts, "bytes": num_bytes}


def plain(value: Any) -> dict[str, Any]:
    """A result as JSON; manifests in it become a few numbers."""
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {name: _plain(field) for name, field in fields.items()}


def _plain(field: Any) -> Any:
    if hasattr(field, "segments") and hasattr(field, "digest"):
        return contents_of(field)
    if hasattr(field, "__dataclass_fields__"):
        return asdict(field)
    if isinstance(field, tuple | list):
        return [_plain(entry) for entry in field]
    return field
