"""What a build would take, before it is begun: counted, measured on a sample, and held against this machine.

Nothing is written.
"""

import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from memory import latest_version, read_manifest, wanted_family
from memory.format.work_files import UNIT_DESCRIPTION, UNITS
from memory_builder.config import BuildConfig
from memory_builder.errors import OutputError
from memory_builder.known_keys import NO_FAULT, KnownKeys
from memory_builder.planning.plan import Plan, Unit
from memory_builder.planning.previous import published_units
from memory_builder.planning.scan import plan_build
from memory_builder.planning.task import Task, UnitMapper
from memory_builder.reporting.near_duplicates import used_ram

_SAMPLED_UNITS = 8
_SAMPLED_BATCHES = 4
_KEY_BYTES = 250  # of RAM for each row: its key and what the memory holds under it, and hashes of it and its caption


@dataclass(frozen=True)
class Source:
    """One corpus of the command line."""

    name: str
    kind: str
    rows: int


@dataclass(frozen=True)
class Forecast:
    """What a build would take.

    Attributes:
        sources: with their rows.
        rows, units: of the whole plan.
        rows_done: of these, rows of units that the memory holds or an earlier run finished.
        ignored: files and members that belong to no row.
        sampled: rows that were tried.
        rejected: of these, rows that cannot be stored, by code.
        index: what the index would be, in FAISS's words, or `exact`.
        rows_per_s: as fast as the sample went.
        stages: share of the lanes' time by stage; empty where nothing is encoded.
        peak_bytes, final_bytes: that the build still takes on disk, and of the memory's files afterwards.
        free_bytes: on that disk.
        ram_bytes, free_ram_bytes: what the build would use, and what is free.
    """

    sources: tuple[Source, ...]
    rows: int
    units: int
    rows_done: int
    ignored: int
    sampled: int
    rejected: dict[str, int]
    index: str
    rows_per_s: float
    stages: dict[str, float]
    peak_bytes: int
    final_bytes: int
    free_bytes: int
    ram_bytes: int
    free_ram_bytes: int

    @property
    def seconds(self) -> float:
        """Time for what is not done, encoding alone."""
        return (self.rows - self.rows_done) / self.rows_per_s if self.rows_per_s else 0.0

    def check(self) -> None:
        """Refuse what cannot fit.

        Raises:
            OutputError: naming what is missing.
        """
        for what, needed, free, remedy in (
            ("on disk", self.peak_bytes, self.free_bytes, "Free some space, or build on another disk."),
            (
                "of RAM",
                self.ram_bytes,
                self.free_ram_bytes,
                "Lower --workers or --batch-size, or use another machine.",
            ),
        ):
            if needed > free:
                raise OutputError(
                    f"the build needs about {needed / 1e9:.1f} GB {what}, and {free / 1e9:.1f} GB are free. {remedy}"
                )


def forecast(config: BuildConfig, task: Task) -> Forecast:
    """Plan a task, try a sample of it, and predict the rest.

    Raises:
        CorpusError, EncoderError: as the build would.
    """
    previous = read_manifest(config.memory) if latest_version(config.memory) is not None else None
    plan = plan_build(config, task, previous)
    published = published_units(previous)
    finished = {file.parent.name for file in (config.memory / UNITS).glob(f"*/{UNIT_DESCRIPTION}")}
    todo = [unit for unit in plan.units if unit.id not in published and unit.id not in finished]
    with task.mapper as mapper:
        sample = _Sample.take(mapper, todo, config.batch_size)
    rows_todo = sum(unit.piece.rows for unit in todo)  # a row goes to the unit store, and then to a segment
    row_bytes = 4 * task.embed_dim + sample.item_bytes  # both embeddings as fp16
    held = sum(segment.rows for segment in previous.segments) if previous else 0
    rows_new = sum(unit.piece.rows for unit in plan.units if unit.id not in published)
    family = wanted_family(config.memory, previous, config.index, new_rows=rows_new, embed_dim=task.embed_dim)
    index_bytes = 2 * family.bytes_per_row(max(1, rows_new + held))  # both modalities
    duplicates = used_ram(rows_new + held, rows_new) if config.near_duplicates else 0
    return Forecast(
        sources=tuple(_sources(plan)),
        rows=plan.rows,
        units=len(plan.units),
        rows_done=plan.rows - rows_todo,
        ignored=plan.ignored,
        sampled=sample.rows,
        rejected=dict(sample.rejected),
        index=family.factory,
        rows_per_s=sample.rows_per_s,
        stages=sample.stages,
        peak_bytes=round((rows_todo + rows_new) * row_bytes + (rows_new + held) * index_bytes),
        final_bytes=round((rows_new + held) * (row_bytes + index_bytes)),
        free_bytes=shutil.disk_usage(_existing(config.memory)).free,
        ram_bytes=_used_ram() + (plan.rows + held) * _KEY_BYTES + duplicates,
        free_ram_bytes=_free_ram() + _used_ram(),
    )


@dataclass(frozen=True)
class _Sample:
    """A few rows that were mapped, and thrown away."""

    rows: int
    rejected: Counter[str]
    rows_per_s: float
    stages: dict[str, float]
    item_bytes: float

    @classmethod
    def take(cls, mapper: UnitMapper, units: list[Unit], batch_size: int) -> "_Sample":
        """Map the beginnings of units from all over the plan; the first batch warms up and is not timed."""
        chosen = units[:: max(1, len(units) // _SAMPLED_UNITS)][:_SAMPLED_UNITS]
        each = max(1, _SAMPLED_BATCHES * batch_size // max(1, len(chosen)))
        for unit in chosen[:1]:
            mapper.map_unit(islice(unit.reader.read(unit.piece), batch_size), KnownKeys({}), _unheard)
        began, before = time.monotonic(), mapper.seconds()
        rejected: Counter[str] = Counter()
        stored = repeated = item_bytes = 0
        for unit in chosen:
            mapped = mapper.map_unit(islice(unit.reader.read(unit.piece), each), KnownKeys({}), _unheard)
            rejected.update(row.code for row in mapped.rejected if row.code not in NO_FAULT)
            repeated += sum(row.code in NO_FAULT for row in mapped.rejected)
            stored += mapped.rows.items.num_rows
            item_bytes += mapped.rows.items.nbytes
        rows, wall = stored + repeated + rejected.total(), time.monotonic() - began
        spent = {stage: seconds - before.get(stage, 0.0) for stage, seconds in mapper.seconds().items()}
        lane_seconds = spent.pop("total", 0.0)
        busy = sum(spent.values())
        # A sample is too short to keep all lanes busy to its end, as a build does.
        rate = rows / wall * (lane_seconds / busy if busy else 1.0) if rows else 0.0
        stages = {stage: seconds / busy for stage, seconds in spent.items()} if busy else {}
        return cls(rows, rejected, rate, stages, item_bytes / max(1, stored))


def _sources(plan: Plan) -> Iterator[Source]:
    rows: Counter[tuple[str, str]] = Counter()
    for unit in plan.units:
        rows[unit.reader.name, unit.reader.kind] += unit.piece.rows
    return (Source(name, kind, count) for (name, kind), count in rows.items())


def _unheard(rows: int, rejected: int) -> None:
    pass


def _existing(path: Path) -> Path:
    """The nearest folder that is there: a memory to be made is not yet."""
    return path if path.exists() else _existing(path.absolute().parent)


def _used_ram() -> int:
    """The most that this process has used so far, the encoder and the sample's batches with it."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # a Mac counts bytes


def _free_ram() -> int:
    """What the system, or the container, would still give."""
    # A Mac does not say what is free: it would make room in all that it has.
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass  # no Linux, or no limit
    return free
