"""A build step by step: lock, plan, have an engine do the units, enter them in the books, commit."""

from collections.abc import Sequence
from contextlib import closing

from memory import BuildLock, wanted_family
from memory.format.workers import working
from memory_builder.committing import Commit
from memory_builder.config import BuildConfig
from memory_builder.engines import Engine, Job
from memory_builder.interruption import Watch, stop_on_signals
from memory_builder.known_keys import LASTING, KnownKeys
from memory_builder.planning.output import check_space, prepare_output
from memory_builder.planning.plan import Plan, Unit
from memory_builder.planning.previous import Previous, published_units
from memory_builder.planning.scan import plan_build
from memory_builder.planning.sharing import Share, ShareResult
from memory_builder.planning.task import Task
from memory_builder.reporting.build_result import BuildResult
from memory_builder.reporting.near_duplicates import AddedDuplicates
from memory_builder.reporting.progress import Progress
from memory_builder.units.books import Books
from memory_builder.units.store import UnitStore


def run(config: BuildConfig, task: Task, engine: Engine, progress: Progress) -> BuildResult:
    """Do a task; what an earlier run finished is not done again.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError, models.errors.EncoderError: as builds.py says.
    """
    prepare_output(config.memory)
    with stop_on_signals() as stop, BuildLock(config.memory):
        return _Build(config, task, engine, Watch(progress, stop)).run()


def do_share(config: BuildConfig, task: Task, engine: Engine, progress: Progress, share: Share) -> ShareResult:
    """Finish a worker's share of a task, beside other workers: no build lock, nothing swept, nothing published.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError, models.errors.EncoderError: as builds.py says.
    """
    prepare_output(config.memory)
    with stop_on_signals() as stop, working(config.memory):
        return _Build(config, task, engine, Watch(progress, stop), sweep=False).do_share(share)


class _Build:
    """One build, under the lock."""

    def __init__(self, config: BuildConfig, task: Task, engine: Engine, watch: Watch, *, sweep: bool = True) -> None:
        self._config = config
        self._task = task
        self._engine = engine
        self._watch = watch
        self._root = config.memory
        self._store = UnitStore(self._root)
        if sweep:  # else others may be writing there
            self._store.sweep()
        self._previous = Previous.open(self._root, task.encoder, config.stamps)
        self._published = published_units(self._previous.manifest)
        stay_out = frozenset() if config.restore_removed else self._previous.removed
        self._known = KnownKeys(self._previous.pairs, removed=stay_out, upsert=config.upsert)
        # Rows that are tried again were counted, and allowed, by the build that rejected them and published the others.
        allowed = 1.0 if config.retry_failed and self._published else config.max_error_rate
        self._books = Books(self._root, self._store, self._previous, allowed)
        self._resumed: set[str] = set()

    def run(self) -> BuildResult:
        """All stages in order; a kill between any two of them costs no finished unit."""
        self._store.remove(self._published.intersection(self._store.ids()))  # left by a kill after a commit
        plan = plan_build(self._config, self._task, self._previous.manifest, self._watch.stop.check)
        self._map_units(plan)
        self._books.judge(complete=True)
        ledger, manifest, duplicates = self._books.ledger, self._previous.manifest, AddedDuplicates(0, 0)
        if ledger.added:
            commit = Commit(self._config, self._task, self._previous, self._books, self._watch)
            manifest, duplicates = commit.run(plan, self._store)
        assert manifest is not None, "without a previous version, rows were added or the build has failed"
        self._store.remove(published_units(manifest))
        created = manifest is not self._previous.manifest
        if created:  # what came to nothing, too: after this version units that replace go by other names
            self._store.remove(unit.id for unit in plan.units)
        # Each night on which a source changed and brought nothing left units; those of the plan spare a second look.
        of_earlier_sources = self._store.without_rows({unit.reader.name for unit in plan.units})
        self._store.remove(of_earlier_sources - {unit.id for unit in plan.units})
        return BuildResult(
            version=manifest.version,
            digest=manifest.digest,
            created=created,
            num_items=manifest.counts["items"],
            rows=ledger.rows,
            added=ledger.added,
            replaced=len(self._books.replaced),
            present=ledger.present,
            repeated=ledger.repeated,
            rejected=dict(ledger.rejected + ledger.rejected_earlier),
            rejected_earlier=ledger.rejected_earlier.total(),
            changed=ledger.changed,
            near_duplicates=duplicates.rows,
            copies=duplicates.copies,
            ignored=plan.ignored,
            units=len(plan.units),
            units_encoded=len(self._books.finished) - len(self._resumed),
            units_resumed=len(self._resumed),
        )

    def do_share(self, share: Share) -> ShareResult:
        """Finish the units of a share that are not finished."""
        self._watch.stage(self._task.stage)
        plan = plan_build(self._config, self._task, self._previous.manifest, self._watch.stop.check)
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

    def _map_units(self, plan: Plan) -> None:
        """Have the engine finish what is not finished, and enter all units in the plan's order."""
        self._watch.stage(self._task.stage)
        self._books.begin(plan.units)
        units = [unit for unit in plan.units if unit.id not in self._published]
        self._resumed = {unit.id for unit in units if self._is_finished(unit)}
        todo = [unit for unit in units if unit.id not in self._resumed]
        rows = sum(unit.piece.rows for unit in todo)
        self._check(units, rows)
        self._tell_kept(units)
        self._watch.progress.start(rows)
        job = Job(self._root, self._known, self._task.mapper, self._watch.progress.lanes)
        there = set(self._resumed)
        with closing(self._engine.finish(todo, job, self._watch.checkpoint)) as arriving:
            for unit in plan.units:
                self._watch.stop.check()
                if unit.id in self._published:
                    self._books.enter_published(unit)
                    continue
                while unit.id not in there:
                    there.add(next(arriving))
                self._books.enter(unit)
                self._books.judge(complete=False)

    def _tell_kept(self, units: Sequence[Unit]) -> None:
        """Say what an earlier run left of the unpublished `units`, if it left anything."""
        rows = sum(unit.piece.rows for unit in units if unit.id in self._resumed)
        begun = [unit.id for unit in units if unit.id in self._store and unit.id not in self._resumed]
        images = sum(self._store.begun(unit_id).num_images for unit_id in begun)
        if rows or images:
            self._watch.progress.kept(len(self._resumed), rows, images)

    def _check(self, units: Sequence[Unit], rows: int) -> None:
        """Refuse before any work what would fail after it: `rows` of the unpublished `units` are to be encoded."""
        check_space(self._root, rows, self._task.embed_dim)
        if units:
            new_rows, embed_dim = sum(unit.piece.rows for unit in units), self._task.embed_dim
            previous = self._previous.manifest
            wanted_family(self._root, previous, self._config.index, new_rows=new_rows, embed_dim=embed_dim)

    def _is_finished(self, unit: Unit) -> bool:
        """Whether an earlier run finished the unit, whole, and it would come out the same now."""
        if unit.id not in self._store:
            return False
        done = self._store.load(unit.id)
        if done is None or (self._config.retry_failed and any(row.code not in LASTING for row in done.rejected)):
            return False
        return self._known.agrees_with(done.rows.items.column("key").to_pylist(), done.rejected)
