"""Time and capacity: who may come in, who is computed together, who is dropped. No HTTP, no torch.

`Batcher` is what the pipeline needs; `TurnBatcher` is one compute thread that takes images and texts in turn.
It never waits for a batch to fill: it takes what is there, and more gathers while it computes. A fault of ours in that
thread costs the batch it struck, and the thread goes on; a device that is lost ends it.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from memory import Modality

logger = logging.getLogger("reco.batcher")

QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")
AnswerCo = TypeVar("AnswerCo", covariant=True)
QueryContra = TypeVar("QueryContra", contravariant=True)
LANES: tuple[Modality, ...] = ("image", "text")
_FOLLOW = 0.25  # the weight of the newest batch in what an item is thought to take


class QueueFull(Exception):  # noqa: N818
    """As many items as allowed are accepted and not answered: the caller should come back later."""


class DeadlinePassed(Exception):  # noqa: N818
    """The item was still waiting when its time was up; nothing was computed for it."""


class BatcherStopped(Exception):  # noqa: N818
    """The compute thread has ended: nothing will be answered any more."""


class DeviceLost(Exception):  # noqa: N818
    """What computes cannot compute any more; only a new process can."""


@dataclass(frozen=True)
class Batch:
    """One computed batch: its size and the seconds of each stage. Shared by the items that were in it."""

    modality: Modality
    size: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Done(Generic[AnswerT]):
    """One item's answer, how long it waited, and the batch it was computed in."""

    answer: AnswerT
    queue_seconds: float
    batch: Batch


class Batcher(Protocol[QueryContra, AnswerT]):
    """What the pipeline asks of a batcher."""

    def admit(self, modality: Modality, count: int) -> AbstractContextManager[None]:
        """Hold room for `count` items; raises QueueFull at once when there is none."""

    def has_room(self, modality: Modality) -> bool:
        """Whether one more item would be admitted."""

    def submit(
        self, modality: Modality, queries: Sequence[QueryContra], deadline: float
    ) -> list[Future[Done[AnswerT]]]:
        """Queue items; `deadline` is on `time.monotonic`. A cancelled future's item is dropped."""


class Compute(Protocol[QueryContra, AnswerCo]):
    """The engine as the batcher sees it: a batch in, answers in its order and seconds by stage out."""

    def __call__(
        self, modality: Modality, queries: Sequence[QueryContra], /
    ) -> tuple[Sequence[AnswerCo], Mapping[str, float]]: ...


@dataclass
class _Entry(Generic[QueryT, AnswerT]):
    query: QueryT
    deadline: float
    queued_at: float = field(default_factory=time.monotonic)
    future: Future[Done[AnswerT]] = field(default_factory=Future)


class TurnBatcher(Generic[QueryT, AnswerT]):
    """One thread, two queues, a turn each."""

    def __init__(
        self,
        compute: Compute[QueryT, AnswerT],
        *,
        max_batch_size: int,
        max_queue_items: int,
        max_batch_s: float = math.inf,
        max_wait_s: float = math.inf,
        on_batch: Callable[[Batch], None] = lambda batch: None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            compute: called from one thread only. `DeviceLost` from it is the end of the batcher.
            max_batch_size: most items in one call of `compute`.
            max_queue_items: most items admitted and not answered, per modality.
            max_batch_s: how long a batch should take at most, by what earlier ones took; at least one item is taken.
            max_wait_s: who would wait longer, by what items took lately, is not admitted.
            on_batch: told of each computed batch, in the compute thread.
            on_restart: told, in the compute thread, that it goes on after a fault of ours.
        """
        self._compute = compute
        self._max_batch_size = max_batch_size
        self._max_queue_items = max_queue_items
        self._max_batch_s, self._max_wait_s = max_batch_s, max_wait_s
        self._item_s: dict[Modality, float] = {}  # what an item of each lane takes, lately
        self._first_item_s: dict[Modality, float] = {}  # what one took in a lane's first batch, which warms it up
        self._ceiling: dict[Modality, int] = dict.fromkeys(LANES, max_batch_size)  # lower after memory ran out
        self._on_batch = on_batch
        self._on_restart = on_restart
        self._busy_since: float | None = None
        self._lost = False
        self._changed = threading.Condition()
        self._waiting: dict[Modality, deque[_Entry[QueryT, AnswerT]]] = {lane: deque() for lane in LANES}
        self._admitted: dict[Modality, int] = dict.fromkeys(LANES, 0)
        self._stopping = False
        self._last_success: float | None = None
        self._thread = threading.Thread(target=self._serve, name="reco-compute", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse what waits, let the batch under way finish, and join the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the compute thread is there."""
        return self._thread.is_alive()

    @property
    def lost(self) -> bool:
        """Whether the device is lost."""
        return self._lost

    @property
    def busy_since(self) -> float | None:
        """When the batch under way began, on `time.monotonic`; None between batches."""
        return self._busy_since

    @property
    def last_success(self) -> float | None:
        """When a batch last succeeded, on `time.monotonic`; None if none has."""
        return self._last_success

    def admitted(self, modality: Modality) -> int:
        """Items admitted and not answered yet."""
        return self._admitted[modality]

    def has_room(self, modality: Modality) -> bool:
        """See `Batcher`."""
        return self._fits(modality, 1)

    @contextmanager
    def admit(self, modality: Modality, count: int) -> Iterator[None]:
        """See `Batcher`."""
        with self._changed:
            if not self._fits(modality, count):
                raise QueueFull
            self._admitted[modality] += count
        try:
            yield
        finally:
            with self._changed:
                self._admitted[modality] -= count

    def submit(self, modality: Modality, queries: Sequence[QueryT], deadline: float) -> list[Future[Done[AnswerT]]]:
        """See `Batcher`."""
        entries = [_Entry[QueryT, AnswerT](query, deadline) for query in queries]
        with self._changed:
            if self._stopping:
                raise BatcherStopped
            self._waiting[modality].extend(entries)
            self._changed.notify_all()
        return [entry.future for entry in entries]

    def _serve(self) -> None:
        """The compute thread. Whatever ends it, nobody is left waiting."""
        turn = 0
        try:
            while True:
                modality, entries = self._next_batch(turn)
                if not entries:
                    return
                turn = LANES.index(modality) + 1
                self._busy_since = time.monotonic()
                try:
                    self._run(modality, entries)
                except DeviceLost:
                    raise
                except Exception as error:
                    logger.exception("the compute thread failed beside its computing, and goes on")
                    _fail(entries, error)
                    self._on_restart()
                finally:
                    self._busy_since = None
        except DeviceLost as error:
            self._lost = True
            logger.critical("the device is lost, and with it this process", exc_info=error)
            _fail(entries, BatcherStopped())
        except Exception:
            logger.exception("the compute thread ended; the service cannot answer any more")
        finally:
            self._refuse_all()

    def _next_batch(self, turn: int) -> tuple[Modality, list[_Entry[QueryT, AnswerT]]]:
        """Wait for work, then take what is there of the lane whose turn it is; no entries means stop."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or any(self._waiting.values()))
                if self._stopping:
                    return LANES[0], []
                order = (LANES[(turn + step) % len(LANES)] for step in range(len(LANES)))
                modality = next(lane for lane in order if self._waiting[lane])
                lane = self._waiting[modality]
                taken = [lane.popleft() for _ in range(min(len(lane), self._most(modality)))]
            now = time.monotonic()
            live = [entry for entry in taken if self._still_wanted(entry, now)]
            if live:
                return modality, live

    def _fits(self, modality: Modality, count: int) -> bool:
        """Whether items may come in: room for them, and an answer in time unless they are alone."""
        before = self._admitted[modality]
        if before + count > self._max_queue_items:
            return False
        own, other = (
            (self._admitted[lane] + (count if lane == modality else 0)) * self._item_s.get(lane, 0.0)
            for lane in sorted(LANES, key=lambda lane: lane != modality)
        )
        return before == 0 or own + min(own, other) <= self._max_wait_s  # the lanes take turns

    def _most(self, modality: Modality) -> int:
        """How many items may be taken together. Where nothing is known, an item may take whole seconds: then one."""
        item_s = self._item_s.get(modality, self._first_item_s.get(modality, math.inf))
        fitting = math.inf if math.isinf(self._max_batch_s) else self._max_batch_s / item_s
        return max(1, int(min(self._ceiling[modality], fitting)))

    def _learn(self, modality: Modality, size: int, seconds: float) -> None:
        """Follow what an item takes, and try larger batches again, step by step, after memory ran out.

        Good news counts at once and bad news by and by: an estimate that is too high would turn clients away. For the
        same reason a lane's first batch, which warms everything up, bounds the size of the second and nothing else.
        """
        item_s = max(seconds / size, 1e-9)
        if modality in self._first_item_s:
            last = self._item_s.get(modality, item_s)
            self._item_s[modality] = min(item_s, last + _FOLLOW * (item_s - last))
        self._first_item_s.setdefault(modality, item_s)
        self._ceiling[modality] = min(self._max_batch_size, self._ceiling[modality] + 1)

    @staticmethod
    def _still_wanted(entry: _Entry[QueryT, AnswerT], now: float) -> bool:
        if not entry.future.set_running_or_notify_cancel():
            return False  # its client left
        if now > entry.deadline:
            entry.future.set_exception(DeadlinePassed())
            return False
        return True

    def _run(self, modality: Modality, entries: list[_Entry[QueryT, AnswerT]]) -> None:
        """Compute a batch; if it fails, each half for itself, down to the one item that is to blame."""
        if len(entries) > self._ceiling[modality]:  # it fell while the half before this one was computed
            self._run_halves(modality, entries)
            return
        started = time.monotonic()
        failure: Exception
        try:
            answers, seconds = self._compute(modality, [entry.query for entry in entries])
            assert len(answers) == len(entries), "one answer for each query"
        except DeviceLost:
            raise
        except Exception as error:
            failure = error
        else:
            self._last_success = time.monotonic()
            self._learn(modality, len(entries), self._last_success - started)
            batch = Batch(modality, len(entries), seconds)
            for entry, answer in zip(entries, answers, strict=True):
                entry.future.set_result(Done(answer, started - entry.queued_at, batch))
            self._on_batch(batch)
            return
        # Outside the except block: the failed batch's tensors are free again before the halves are tried.
        if len(entries) == 1:
            entries[0].future.set_exception(failure)
            return
        if isinstance(failure, MemoryError):
            self._ceiling[modality] = len(entries) // 2
        del failure
        self._run_halves(modality, entries)

    def _run_halves(self, modality: Modality, entries: list[_Entry[QueryT, AnswerT]]) -> None:
        middle = len(entries) // 2
        self._run(modality, entries[:middle])
        self._run(modality, entries[middle:])

    def _refuse_all(self) -> None:
        with self._changed:
            self._stopping = True
            entries = [entry for lane in LANES for entry in self._waiting[lane]]
            for lane in LANES:
                self._waiting[lane].clear()
        for entry in entries:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(BatcherStopped())


def _fail(entries: Sequence[_Entry[QueryT, AnswerT]], error: Exception) -> None:
    """Give those that have no answer yet this one."""
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
