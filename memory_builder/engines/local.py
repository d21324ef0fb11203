"""Units in this process, a few at a time: while one is written, the next is decoded and encoded."""

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

from memory.allocator import give_back
from memory_builder.encoding.mapper import Checkpoint
from memory_builder.engines.engine import Job, map_whole
from memory_builder.planning.plan import Unit
from memory_builder.planning.task import UnitMapper
from memory_builder.reporting.build_log import log_unit
from memory_builder.units.store import UnitStore

_KEPT_EVERY_S = 60.0  # what of a unit is done is written, of which a kill costs the rest
_TICK_S = 0.1  # how long a signal or the progress bar may wait
# Large blocks of each batch come and go among the small ones of its rows: some 0.2 GB lie free between them, unless
# they are given back now and then, which takes some milliseconds.
_GIVE_BACK_S = 1.0


class LocalEngine:
    """The engine of one machine: threads that each lead a unit through the mapper and to the disk."""

    def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
        """As in Engine; units come in the order given."""
        with job.mapper as mapper, ThreadPoolExecutor(mapper.units_at_once, thread_name_prefix="unit") as threads:
            leader = _Leader(job, mapper)
            running: deque[tuple[Unit, Future[None]]] = deque()
            waiting = iter(units)
            gave_back = time.monotonic()
            try:
                while True:
                    while len(running) < mapper.units_at_once and (unit := next(waiting, None)) is not None:
                        running.append((unit, threads.submit(leader.lead, unit)))
                    if not running:
                        break
                    # The first of them: a later one that is done already would make this loop spin, and hold the GIL.
                    wait([running[0][1]], timeout=_TICK_S)
                    leader.tell(checkpoint)
                    if time.monotonic() - gave_back >= _GIVE_BACK_S:
                        give_back()
                        gave_back = time.monotonic()
                    while running and running[0][1].done():
                        unit, future = running.popleft()
                        future.result()
                        yield unit.id
                leader.tell(checkpoint)
            finally:
                leader.stop()
                give_back()


class _Abandoned(Exception):  # noqa: N818  a request, heard between two batches
    """The build stops, and with it the unit."""


class _Leader:
    """Leads units, each in a thread of its own, and keeps what they report for the building thread."""

    def __init__(self, job: Job, mapper: UnitMapper) -> None:
        self._job, self._mapper = job, mapper
        self._store = UnitStore(job.root)
        self._reports: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._stopped = threading.Event()

    def lead(self, unit: Unit) -> None:
        """Map a unit and save it."""
        began = kept = time.monotonic()
        begun = self._store.begun(unit.id)

        def note(rows: int, rejected: int) -> None:
            nonlocal kept
            self._note(rows, rejected)
            if time.monotonic() - kept >= _KEPT_EVERY_S:  # a process that is killed is not asked before
                self._store.keep_begun(unit.id, begun)
                kept = time.monotonic()

        try:
            mapped = map_whole(unit, self._mapper, self._job.known, note, begun)
        except _Abandoned:
            self._store.keep_begun(unit.id, begun)
            raise
        self._store.save(unit.id, mapped)
        log_unit(self._job.root, unit.id, unit.piece.rows, time.monotonic() - began)

    def tell(self, checkpoint: Checkpoint) -> None:
        """Pass on what was reported since the last call."""
        rows = rejected = 0
        while True:
            try:
                more_rows, more_rejected = self._reports.get_nowait()
            except Empty:
                break
            rows, rejected = rows + more_rows, rejected + more_rejected
        checkpoint(rows, rejected)
        if rows:
            self._job.lanes(self._mapper.seconds())

    def stop(self) -> None:
        """Let no unit go on beyond its next batch."""
        self._stopped.set()

    def _note(self, rows: int, rejected: int) -> None:
        if self._stopped.is_set():
            raise _Abandoned
        self._reports.put((rows, rejected))
