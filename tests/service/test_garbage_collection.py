"""Full collections come by the clock, and what computes gives way to the event loop."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import garbage_collection
from service.observing.metrics import Metrics
from service.pipeline.workers import Workers


@pytest.fixture
def thawed() -> Iterator[None]:
    """What a test froze must not stay so for the others."""
    yield
    gc.unfreeze()


def test_thresholds_are_the_interpreters_again_afterwards() -> None:
    before = gc.get_threshold()
    with garbage_collection.by_the_clock():
        assert gc.get_threshold()[2] > 1_000_000
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_no_full_collection_comes_by_itself_while_much_comes_to_live(thawed: None) -> None:
    def full_collections() -> int:
        before = gc.get_stats()[2]["collections"]
        kept: list[Any] = [[number] for number in range(2_000_000)]
        assert len(kept) == 2_000_000
        return int(gc.get_stats()[2]["collections"]) - int(before)

    assert full_collections() > 0  # as it is without us
    with garbage_collection.by_the_clock():
        assert full_collections() == 0


def collections(items: Callable[[], int], *, seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many full collections there are when looks are made each hundredth of a second."""
    counted = []
    monkeypatch.setattr(garbage_collection.gc, "collect", lambda: counted.append(1))

    async def run() -> None:
        task = asyncio.create_task(garbage_collection.collect(lambda: True, items, every_s=0.01))
        await asyncio.sleep(seconds)
        task.cancel()

    asyncio.run(run())
    return len(counted)


def test_a_quiet_service_is_looked_at_each_time(monkeypatch: pytest.MonkeyPatch, thawed: None) -> None:
    assert collections(lambda: 3, seconds=0.5, monkeypatch=monkeypatch) >= 10


def test_a_busy_one_puts_it_off_but_not_for_good(monkeypatch: pytest.MonkeyPatch, thawed: None) -> None:
    assert 1 <= collections(lambda: 1000, seconds=0.5, monkeypatch=monkeypatch) <= 5


def test_nothing_is_kept_before_the_model_is_loaded(thawed: None) -> None:
    loaded = False

    async def run() -> None:
        nonlocal loaded
        task = asyncio.create_task(garbage_collection.collect(lambda: loaded, lambda: 0, every_s=0.01))
        await asyncio.sleep(0.05)
        assert gc.get_freeze_count() == 0
        loaded = True
        await asyncio.sleep(0.05)
        assert gc.get_freeze_count() > 0
        task.cancel()

    gc.unfreeze()
    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_compute_threads_give_way_and_the_event_loop_does_not(make_settings: Any, encoder: Any) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    workers = Workers(make_settings(), Metrics(), encoder)
    workers.start()
    try:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        told = {
            names[int(task.name)]: os.getpriority(os.PRIO_PROCESS, int(task.name))
            for task in tasks()
            if int(task.name) in names
        }
        computing = [nice for name, nice in told.items() if name.startswith("reco-compute")]
        assert computing and set(computing) == {min(19, own + 5)}
        assert {nice for name, nice in told.items() if not name.startswith("reco-compute")} == {own}
    finally:
        workers.stop()


def tasks() -> list[Path]:
    """The threads of this process."""
    return list(Path("/proc/self/task").iterdir())
