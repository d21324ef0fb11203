"""A build step by step: lock, plan, map, write segments, index, publish. Knows the parts of every step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from memory import (
    BuildLock,
    Contents,
    DeleteRecord,
    Manifest,
    Memory,
    SegmentRecord,
    UnitRecord,
    build_indexes,
    key_hash,
    latest_version,
    publish,
    read_removed,
    wanted_family,
    write_deletes,
    write_removed,
)
from memory.durable import write_file
from memory.work_files import REJECTED
from memory_builder.admission import Admission
from memory_builder.build_result import BuildResult
from memory_builder.config import BuildConfig
from memory_builder.engines import Engine, Job
from memory_builder.errors import NothingUsable
from memory_builder.interruption import StopRequest, stop_on_signals
from memory_builder.known_keys import ALREADY_STORED, LASTING, KnownKeys, StoredPair
from memory_builder.ledger import Ledger
from memory_builder.near_duplicates import AddedDuplicates, report_near_duplicates
from memory_builder.output import check_space, prepare_output
from memory_builder.plan import Plan, Unit, plan_units
from memory_builder.progress import Progress
from memory_builder.segmenting import FinishedUnit, group_units, write_units
from memory_builder.sharing import Share, ShareResult
from memory_builder.task import Task
from memory_builder.units import UnitStore, rejected_lines


def run(config: BuildConfig, task: Task, engine: Engine, progress: Progress) -> BuildResult:
    """Do a task; what an earlier run finished is not done again.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError, models.errors.EncoderError: as builds.py says.
    """
    prepare_output(config.memory)
    with stop_on_signals() as stop, BuildLock(config.memory):
        return _Build(config, task, engine, _Watch(progress, stop)).run()


def do_share(config: BuildConfig, task: Task, engine: Engine, progress: Progress, share: Share) -> ShareResult:
    """Finish a worker's share of a task, beside other workers: no lock, nothing swept, nothing published.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError, models.errors.EncoderError: as builds.py says.
    """
    prepare_output(config.memory)
    with stop_on_signals() as stop:
        return _Build(config, task, engine, _Watch(progress, stop), sweep=False).do_share(share)


def plan_build(
    config: BuildConfig, task: Task, previous: Manifest | None, heard: Callable[[], None] = lambda: None
) -> Plan:
    """Scan the sources of a task and name their units.

    Args:
        config, task: what is built.
        previous: the version that grows.
        heard: called between sources; may raise to stop.

    Raises:
        CorpusError: a source is damaged or cannot be read.
    """
    sources = []
    for reader in task.readers:
        heard()
        sources.append((reader, list(reader.pieces(config.unit_rows))))
    row_options = dict(task.row_options)
    if previous and (config.upsert or config.restore_removed):
        # What comes of a unit depends on what is stored, so no unit that was published is that unit.
        row_options["upsert"] = [previous.digest, config.upsert, config.restore_removed]
    plan = plan_units(sources, row_options=row_options, encoder=task.encoder)
    return plan.retried(previous) if previous and config.retry_failed else plan


@dataclass(frozen=True)
class _Watch:
    """Who looks on while a build runs, and may stop it."""

    progress: Progress
    stop: StopRequest

    def stage(self, name: str) -> None:
        self.stop.check()
        self.progress.stage(name)

    def checkpoint(self, rows: int, rejected: int) -> None:
        if rows or rejected:
            self.progress.advance(rows, rejected)
        self.stop.check()


class _Build:
    """One build, under the lock."""

    def __init__(self, config: BuildConfig, task: Task, engine: Engine, watch: _Watch, *, sweep: bool = True) -> None:
        self._config = config
        self._task = task
        self._engine = engine
        self._watch = watch
        self._root = config.memory
        self._store = UnitStore(self._root)
        if sweep:  # else others may be writing there
            self._store.sweep()
        # Rows that are tried again were counted, and allowed, by the build that rejected them.
        self._ledger = Ledger(1.0 if config.retry_failed else config.max_error_rate)
        self._stored_ids: dict[str, int] = {}
        self._removed: frozenset[bytes] = frozenset()
        self._replaced: list[int] = []
        self._gone: frozenset[int] = frozenset()
        self._previous, stored = self._open_previous()
        stay_out = frozenset() if config.restore_removed else self._removed
        self._known = KnownKeys(stored, removed=stay_out, upsert=config.upsert)
        self._published = {
            unit.id for segment in (self._previous.segments if self._previous else ()) for unit in segment.units
        }
        self._duplicates = AddedDuplicates(0, 0)
        self._admission = Admission()
        self._finished: list[FinishedUnit] = []
        self._resumed: set[str] = set()

    def run(self) -> BuildResult:
        """All stages in order; a kill between any two of them costs no finished unit."""
        self._store.remove(self._published.intersection(self._store.ids()))  # left by a kill after a commit
        plan = plan_build(self._config, self._task, self._previous, self._watch.stop.check)
        self._map_units(plan)
        self._judge(complete=True)
        manifest = self._commit(plan) if self._ledger.added else self._previous
        assert manifest is not None, "without a previous version, rows were added or the build has failed"
        self._store.remove(unit.id for segment in manifest.segments for unit in segment.units)
        return BuildResult(
            version=manifest.version,
            digest=manifest.digest,
            created=manifest is not self._previous,
            num_items=manifest.counts["items"],
            rows=self._ledger.rows,
            added=self._ledger.added,
            replaced=len(self._replaced),
            present=self._ledger.present,
            rejected=dict(self._ledger.rejected),
            near_duplicates=self._duplicates.rows,
            copies=self._duplicates.copies,
            ignored=plan.ignored,
            units=len(plan.units),
            units_encoded=len(self._finished) - len(self._resumed),
            units_resumed=len(self._resumed),
        )

    def do_share(self, share: Share) -> ShareResult:
        """Finish the units of a share that are not finished."""
        self._watch.stage(self._task.stage)
        plan = plan_build(self._config, self._task, self._previous, self._watch.stop.check)
        units = [unit for unit in plan.units if unit.id not in self._published]
        mine = share.of(units)
        todo = [unit for unit in mine if not self._is_finished(unit)]
        rows = sum(unit.piece.rows for unit in todo)
        self._check(units, rows)
        self._watch.progress.start(rows)
        job = Job(self._root, self._known, self._task.mapper)
        with closing(self._engine.finish(todo, job, self._watch.checkpoint)) as arriving:
            for _ in arriving:
                self._watch.stop.check()
        return ShareResult(len(mine), len(mine) - len(todo), len(units))

    def _open_previous(self) -> tuple[Manifest | None, dict[str, StoredPair]]:
        """The version to grow, checked file by file against the encoder, and what is alive of it under each key."""
        if latest_version(self._root) is None:
            return None, {}
        with Memory.open(self._root, encoder=self._task.encoder, stamps=self._config.stamps) as memory:
            self._removed = read_removed(self._root, memory.manifest)
            pairs = map(StoredPair, memory.content_hashes(), memory.captions())
            deleted = self._gone = frozenset(memory.deleted_ids().tolist())
            rows = enumerate(zip(memory.keys(), pairs, strict=True))
            alive = [(id, key, pair) for id, (key, pair) in rows if id not in deleted]
            self._stored_ids = {key: id for id, key, _ in alive}
            return memory.manifest, {key: pair for _, key, pair in alive}

    def _map_units(self, plan: Plan) -> None:
        """Have the engine finish what is not finished, and admit all units in the plan's order."""
        self._watch.stage(self._task.stage)
        units = [unit for unit in plan.units if unit.id not in self._published]
        self._resumed = {unit.id for unit in units if self._is_finished(unit)}
        todo = [unit for unit in units if unit.id not in self._resumed]
        rows = sum(unit.piece.rows for unit in todo)
        self._check(units, rows)
        self._watch.progress.start(rows)
        job = Job(self._root, self._known, self._task.mapper, self._watch.progress.lanes)
        there = set(self._resumed)
        with closing(self._engine.finish(todo, job, self._watch.checkpoint)) as arriving:
            for unit in plan.units:
                self._watch.stop.check()
                if unit.id in self._published:
                    self._ledger.enter_present(unit.piece.rows)
                    continue
                while unit.id not in there:
                    there.add(next(arriving))
                self._admit(unit)
                self._judge(complete=False)

    def _check(self, units: Sequence[Unit], rows: int) -> None:
        """Refuse before any work what would fail after it: `rows` of the unpublished `units` are to be encoded."""
        check_space(self._root, rows, self._task.embed_dim)
        if units:
            new_rows, embed_dim = sum(unit.piece.rows for unit in units), self._task.embed_dim
            wanted_family(self._root, self._previous, self._config.index, new_rows=new_rows, embed_dim=embed_dim)

    def _is_finished(self, unit: Unit) -> bool:
        """Whether an earlier run finished the unit, whole, and it would come out the same now."""
        if unit.id not in self._store:
            return False
        done = self._store.load(unit.id)
        if done is None or (self._config.retry_failed and any(row.code not in LASTING for row in done.rejected)):
            return False
        return self._known.agrees_with(done.rows.items.column("key").to_pylist(), done.rejected)

    def _admit(self, unit: Unit) -> None:
        """Enter a finished unit in the books: what of it will be stored, and what it replaces."""
        done = self._store.load(unit.id)
        assert done is not None, f"unit {unit.id} was finished under the lock and is gone or damaged"
        admitted = self._admission.admit(done)
        self._ledger.enter(admitted.num_rows, (*done.rejected, *admitted.late))
        self._finished.append(FinishedUnit(UnitRecord(unit.id, admitted.num_rows), admitted))
        self._note_keys(admitted.take(done.rows).items.column("key").to_pylist())

    def _note_keys(self, keys: list[str]) -> None:
        """Keys of rows that will be stored: what they replace goes, and none of them is a removed key any more."""
        self._replaced += [self._stored_ids[key] for key in keys if key in self._stored_ids]
        if self._removed:
            self._removed = self._removed.difference(map(key_hash, keys))

    def _judge(self, *, complete: bool) -> None:
        """Stop on too many rejected rows, or for want of a single good one; leave the ledger either way."""
        ledger, path = self._ledger, self._root / REJECTED
        exceeded = ledger.exceeds(complete=complete)
        if exceeded or (complete and self._finished):
            write_file(path, lambda stream: [stream.write(block) for block in self._rejected()], replace=True)
        if complete and not ledger.added and self._previous is None:
            raise NothingUsable(
                f"None of the {ledger.rows:,} rows can be stored. Rejected: {ledger.codes()}. Every row and "
                f"its reason is in {path}.",
                ledger.rejected,
            )
        if exceeded:
            raise ledger.refusal(path)

    def _rejected(self) -> Iterator[bytes]:
        for unit in self._finished:
            rows = (*self._store.rejected(unit.record.id), *unit.admitted.late)
            yield rejected_lines(row for row in rows if row.code != ALREADY_STORED)

    def _commit(self, plan: Plan) -> Manifest:
        """Write what is new as segments, index all segments, publish."""
        previous = self._previous
        self._watch.stage("segments")
        segments = list(previous.segments) if previous else []
        for units in group_units(self._finished, self._config.max_segment_rows):
            self._watch.stop.check()
            segments.append(write_units(self._root, self._store, units))
        self._report_duplicates(segments, len(segments) - (len(previous.segments) if previous else 0))
        self._watch.stage("index")
        indexes = build_indexes(
            self._root,
            segments,
            options=self._config.index,
            previous=previous.indexes if previous else None,
            check=self._watch.stop.check,
        )
        self._watch.stage("publish")
        corpora = [*(previous.sources or {}).get("corpora", ())] if previous else []
        corpora += [name for name in _names(plan) if name not in corpora]
        contents = Contents(
            encoder=previous.encoder if previous else self._task.encoder,
            encoded_with=previous.encoded_with if previous else self._task.encoded_with,
            segments=tuple(segments),
            indexes=indexes,
            deletes=(*(previous.deletes if previous else ()), *self._write_deletes()),
            removed=write_removed(self._root, self._removed),
            sources={"corpora": corpora},
            parent=previous.version if previous else None,
        )
        return publish(self._root, contents)

    def _report_duplicates(self, segments: Sequence[SegmentRecord], added: int) -> None:
        if self._config.near_duplicates:
            self._watch.stage("duplicates")
            gone = self._gone.union(self._replaced)
            self._duplicates = report_near_duplicates(
                self._root, segments, added, self._config.near_duplicates, gone=gone
            )

    def _write_deletes(self) -> list[DeleteRecord]:
        """The rows that were replaced, in the same commit as what replaces them."""
        return [write_deletes(self._root, self._replaced)] if self._replaced else []


def _names(plan: Plan) -> list[str]:
    return list(dict.fromkeys(unit.reader.name for unit in plan.units))
