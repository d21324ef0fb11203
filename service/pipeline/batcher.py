"""Batches by turns: a queue for images, one for texts, and threads that take what is there. No HTTP, no torch.

A thread never waits for a batch to fill: it takes what is there, and more gathers while it computes. With two threads
each has half of the cores: products on fewer cores wait less for one another, so batches of ten side by side are
quicker than batches of twenty one by one. A batch that is alone has the whole machine, and is the first thread's: the
others take what comes beside one, so that no other thread keeps a team for all cores (own_thread). While the other lane
is silent a batch may take longer, for nobody waits behind it. A fault of ours costs the batch it struck, and the thread
goes on; a device that is lost ends all of them.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from memory import Modality
from service.pipeline.batch import (
    LANES,
    AnswerT,
    Batch,
    BatcherStopped,
    Compute,
    DeadlinePassed,
    DeviceLost,
    Done,
    QueueFull,
)
from service.pipeline.pace import Pace

logger = logging.getLogger("reco.batcher")

# Of the longest wait, for has_room: what an item takes is an estimate, and who was let in should not be refused later.
_AT_THE_DOOR = 0.9
# Seconds since a lane's last item, and how much longer a batch of the other may take then: on a slow core an image
# costs a quarter less in batches of eight than in batches of one.
_SILENT_S, _BESIDE_SILENCE = 10.0, 4

QueryT = TypeVar("QueryT")


@dataclass
class _Entry(Generic[QueryT, AnswerT]):
    query: QueryT
    deadline: float
    queued_at: float = field(default_factory=time.monotonic)
    future: Future[Done[AnswerT]] = field(default_factory=Future)


@dataclass
class _Taken(Generic[QueryT, AnswerT]):
    """What a thread computes and since when, the share of the machine it was given, and whether another has joined."""

    modality: Modality
    entries: list[_Entry[QueryT, AnswerT]]
    share: float
    began_at: float = field(default_factory=time.monotonic)
    joined: bool = False


class Batcher(Generic[QueryT, AnswerT]):
    """Two queues that take turns, and as many batches at once as there are threads."""

    def __init__(
        self,
        compute: Compute[QueryT, AnswerT],
        *,
        max_batch_size: int,
        max_queue_items: int,
        max_batch_s: float = math.inf,
        max_wait_s: float = math.inf,
        concurrent_batches: int = 1,
        on_thread: Callable[[], None] = lambda: None,
        on_share: Callable[[float], None] = lambda share: None,
        on_batch: Callable[[Batch], None] = lambda batch: None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            compute: called from the compute threads only. `DeviceLost` from it is the end of the batcher.
            max_batch_size: most items in one call of `compute`.
            max_queue_items: most items admitted and not answered, per modality.
            max_batch_s, max_wait_s: see `Pace`.
            concurrent_batches: compute threads.
            on_thread: told, in a compute thread, that it begins.
            on_share: told, in the compute thread and before each batch, what share of the machine the batch has.
            on_batch: told of each computed batch, in the compute thread.
            on_restart: told, in the compute thread, that it goes on after a fault of ours.
        """
        self._compute = compute
        self._max_queue_items = max_queue_items
        self._pace = Pace(max_batch_size=max_batch_size, max_batch_s=max_batch_s, max_wait_s=max_wait_s)
        self._on_thread, self._on_share, self._on_batch, self._on_restart = on_thread, on_share, on_batch, on_restart
        self._changed = threading.Condition()
        self._waiting: dict[Modality, deque[_Entry[QueryT, AnswerT]]] = {lane: deque() for lane in LANES}
        self._admitted: dict[Modality, int] = dict.fromkeys(LANES, 0)
        self._submitted_at: dict[Modality, float] = dict.fromkeys(LANES, -math.inf)  # the newest of each lane
        self._turn = 0
        self._busy: dict[int, _Taken[QueryT, AnswerT]] = {}  # what each thread computes
        self._stopping = self._lost = False
        self._last_success: dict[Modality, float] = dict.fromkeys(LANES, -math.inf)
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"reco-compute-{number}", daemon=True)
            for number in range(concurrent_batches)
        ]

    def start(self) -> None:
        """Begin to compute."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Refuse what waits, let the batches under way finish, and join the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def alive(self) -> bool:
        """Whether all compute threads are there."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def lost(self) -> bool:
        """Whether the device is lost, or a thread has ended unasked."""
        return self._lost

    @property
    def busy_since(self) -> float | None:
        """When the oldest batch under way began, on `time.monotonic`; None between batches."""
        with self._changed:
            return min((taken.began_at for taken in self._busy.values()), default=None)

    def last_success(self, modality: Modality) -> float:
        """When a batch last succeeded, on `time.monotonic`; -inf if none has."""
        return self._last_success[modality]

    def admitted(self, modality: Modality) -> int:
        """Items admitted and not answered yet."""
        return self._admitted[modality]

    @property
    def ahead_s(self) -> float:
        """Seconds that the items admitted and not answered will take, by what items took lately."""
        return self._pace.seconds(self._admitted)

    def has_room(self, modality: Modality, coming: int = 0) -> bool:
        """Whether one more item would be admitted behind those that are coming."""
        return self._fits(modality, coming + 1, _AT_THE_DOOR)

    @contextmanager
    def admit(self, modality: Modality, count: int) -> Iterator[None]:
        """Hold room for `count` items.

        Raises:
            QueueFull: at once, when there is none.
        """
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
        """Queue items; a cancelled future's item is dropped.

        Args:
            deadline: on `time.monotonic`; an item that waits beyond it fails with `DeadlinePassed`.

        Raises:
            BatcherStopped: nothing will be answered any more.
        """
        entries = [_Entry[QueryT, AnswerT](query, deadline) for query in queries]
        with self._changed:
            if self._stopping:
                raise BatcherStopped
            self._waiting[modality].extend(entries)
            self._submitted_at[modality] = time.monotonic()
            self._changed.notify_all()
        return [entry.future for entry in entries]

    def _fits(self, modality: Modality, count: int, share: float = 1.0) -> bool:
        """Whether items may come in: room for them, and an answer in time (in a share of it) unless they are alone."""
        before = self._admitted[modality]
        if before + count > self._max_queue_items:
            return False
        return before == 0 or self._pace.in_time(modality, {**self._admitted, modality: before + count}, share)

    def _serve(self, number: int) -> None:
        """A compute thread. Whatever ends it, nobody is left waiting."""
        try:
            self._on_thread()
            while (taken := self._take(number)) is not None:
                try:
                    self._on_share(taken.share)
                    self._run(taken, _still_wanted(taken.entries))
                except DeviceLost:
                    _fail(taken.entries, BatcherStopped())
                    raise
                except Exception as error:
                    logger.exception("a compute thread failed beside its computing, and goes on")
                    _fail(taken.entries, error)
                    self._on_restart()
                finally:
                    with self._changed:
                        del self._busy[number]
        except Exception as error:
            self._lost = True
            logger.critical("what computes is lost, and with it this process", exc_info=error)
        finally:
            self._refuse_all()

    def _take(self, number: int) -> _Taken[QueryT, AnswerT] | None:
        """Wait for work, then take of the lane whose turn it is, leaving idle threads their part; None means stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._is_asked(number))
            if self._stopping:
                return None
            order = (LANES[(self._turn + step) % len(LANES)] for step in range(len(LANES)))
            modality = next(lane for lane in order if self._waiting[lane])
            self._turn = LANES.index(modality) + 1
            lane, share = self._waiting[modality], 1 / len(self._threads)
            idle = len(self._threads) - len(self._busy)  # with this one
            wanted = sum(not entry.future.cancelled() for entry in lane)
            count = min(math.ceil(wanted / idle), self._pace.most(modality, share, self._times(modality)))
            entries = _pop(lane, count)
            alone = not self._busy and not any(self._waiting.values())
            for other in self._busy.values():
                other.joined = True
            self._busy[number] = taken = _Taken(modality, entries, 1.0 if alone else share)
            if any(self._waiting.values()):
                self._changed.notify_all()  # the threads behind this one
            return taken

    def _is_asked(self, number: int) -> bool:
        """Whether there is work for a thread: those before it have some."""
        return any(self._waiting.values()) and all(before in self._busy for before in range(number))

    def _times(self, modality: Modality) -> float:
        """How many times the longest batch this one may take."""
        [other] = (lane for lane in LANES if lane != modality)
        is_silent = not self._waiting[other] and time.monotonic() - self._submitted_at[other] >= _SILENT_S
        return _BESIDE_SILENCE if is_silent else 1

    def _run(self, taken: _Taken[QueryT, AnswerT], entries: list[_Entry[QueryT, AnswerT]]) -> None:
        """Compute a batch or a part of it; if it fails, each half for itself, down to the one item that is to blame."""
        modality = taken.modality
        if not entries:
            return
        if len(entries) > self._pace.ceiling(modality):  # it fell while the half before this one was computed
            self._run_halves(taken, entries)
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
            self._succeed(taken, len(entries), started)
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
            with self._changed:
                self._pace.lower(modality, len(entries) // 2)
        del failure
        self._run_halves(taken, entries)

    def _succeed(self, taken: _Taken[QueryT, AnswerT], size: int, started: float) -> None:
        with self._changed:
            self._last_success[taken.modality] = ended = time.monotonic()
            # What began alone and was joined had the whole machine for a part of its time: nobody knows its share.
            if not (taken.joined and taken.share == 1.0):
                self._pace.learn(taken.modality, size, ended - started, taken.share)

    def _run_halves(self, taken: _Taken[QueryT, AnswerT], entries: list[_Entry[QueryT, AnswerT]]) -> None:
        middle = len(entries) // 2
        self._run(taken, entries[:middle])
        self._run(taken, entries[middle:])

    def _refuse_all(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            entries = [entry for lane in LANES for entry in self._waiting[lane]]
            for lane in LANES:
                self._waiting[lane].clear()
        for entry in entries:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(BatcherStopped())


def _pop(lane: deque[_Entry[QueryT, AnswerT]], count: int) -> list[_Entry[QueryT, AnswerT]]:
    """The next entries, and those between them whose clients have left: they take no place in a batch."""
    entries = []
    while lane and (count > 0 or lane[0].future.cancelled()):
        entries.append(lane.popleft())
        count -= not entries[-1].future.cancelled()
    return entries


def _still_wanted(entries: Sequence[_Entry[QueryT, AnswerT]]) -> list[_Entry[QueryT, AnswerT]]:
    """Those whose client is still there and whose time is not up; the late ones are told."""
    now, wanted = time.monotonic(), []
    for entry in entries:
        if not entry.future.set_running_or_notify_cancel():
            continue  # its client left
        if now > entry.deadline:
            entry.future.set_exception(DeadlinePassed())
        else:
            wanted.append(entry)
    return wanted


def _fail(entries: Sequence[_Entry[QueryT, AnswerT]], error: Exception) -> None:
    """Give those that have no answer yet this one."""
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
