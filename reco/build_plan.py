"""`reco build --plan`: what a build would take, as a table."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from reco.console import console, stop
from reco.counted import counted

if TYPE_CHECKING:
    from memory_builder import BuildConfig, EmbeddingsReader, Forecast, Origin
    from models.encoder import Encoder

_SHOWN_SOURCES = 8


def plan_encoding(config: "BuildConfig", open_encoder: "Callable[[], Encoder]") -> dict[str, Any]:
    """Show what encoding a corpus would take, and return it for programs; exit code 1 if it cannot fit."""
    from memory_builder import forecast_build

    began = time.monotonic()
    encoder = open_encoder()
    start_s = time.monotonic() - began
    with console.status("counting rows and trying a sample"):
        found = forecast_build(config, encoder)
    return _show(found, config.memory, f"{encoder.name} on {encoder.device}, {encoder.dtype}", start_s)


def plan_import(
    config: "BuildConfig", readers: "list[EmbeddingsReader]", find_origin: "Callable[[list[EmbeddingsReader]], Origin]"
) -> dict[str, Any]:
    """As `plan_encoding`, for embeddings that are taken over."""
    from memory_builder import forecast_from_embeddings

    found = forecast_from_embeddings(config, readers, find_origin(readers))
    return _show(found, config.memory, "none is run: the rows are encoded")


def _show(found: "Forecast", memory: Path, encoder: str, start_s: float = 0.0) -> dict[str, Any]:
    """Print it; `start_s` is what opening the encoder took here, and will take the build."""
    from memory_builder import OutputError
    from memory_builder.reporting.ledger import advice

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for source in found.sources[:_SHOWN_SOURCES]:
        table.add_row("corpus", f"{source.name} ({source.kind}), {counted(source.rows, 'row')}")
    if len(found.sources) > _SHOWN_SOURCES:
        table.add_row("", f"and {len(found.sources) - _SHOWN_SOURCES:,} more")
    table.add_row("rows", _rows(found))
    table.add_row("sample", _sample(found))
    table.add_row("encoder", encoder)
    if found.sampled:
        stages = ", ".join(f"{stage} {share:.0%}" for stage, share in sorted(found.stages.items()))
        table.add_row("speed", f"{found.rows_per_s:,.0f} rows/s" + (f" ({stages})" if stages else ""))
        starting = f", {duration(start_s)} of it to open the encoder" if start_s else ""
        table.add_row("time", f"about {duration(found.seconds + start_s)}{starting}; the index not counted")
    table.add_row(
        "disk",
        f"{_size(found.peak_bytes)} while it is built, {_size(found.final_bytes)} of memory after; "
        f"{_size(found.free_bytes)} free",
    )
    table.add_row("RAM", f"{_size(found.ram_bytes)}; {_size(found.free_ram_bytes)} free")
    table.add_row("index", found.index + (": all rows are scanned, in fp16" if found.index == "exact" else ""))
    console.print(table)
    try:
        found.check()
    except OutputError as error:
        stop(error.message)
    if found.sampled and sum(found.rejected.values()) == found.sampled:
        stop(
            f"no row of the sample can be stored ({', '.join(sorted(found.rejected))}): the build would end so, too."
            f"{advice(found.rejected)} docs/builder.md says what each code means."
        )
    console.print(f"nothing was written; leave --plan out to build {memory}", style="dim")
    return {**asdict(found), "seconds": found.seconds, "encoder_start_s": round(start_s, 3)}


def duration(seconds: float) -> str:
    """Seconds for a person: 40 s, 12 min, 3.5 h, 2.1 days."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "h" else f"{max(1, round(value))} {unit}"
    return f"{seconds / 86400:.1f} days"


def _rows(found: "Forecast") -> str:
    done = f", {found.rows_done:,} of them done already" if found.rows_done else ""
    ignored = f"; {counted(found.ignored, 'file')} ignored" if found.ignored else ""
    return f"{found.rows:,} in {counted(found.units, 'unit')}{done}{ignored}"


def _sample(found: "Forecast") -> str:
    if not found.sampled:
        return "none: nothing is left to do"
    codes = ", ".join(f"{count:,} {code}" for code, count in sorted(found.rejected.items()))
    return f"{counted(found.sampled, 'row')}, " + (f"rejected: {codes}" if codes else "all usable")


def _size(count: int) -> str:
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * size:
            return f"{count / size:,.0f} {unit}" if unit != "GB" else f"{count / size:,.1f} {unit}"
    return f"{count / 1e12:,.1f} TB"
