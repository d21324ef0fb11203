"""The batcher gathers while it computes, isolates a poisoned item, drops the late and the gone, refuses a surplus."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait

import pytest

from memory import Modality
from service.pipeline import batcher as batcher_module
from service.pipeline.batch import Batch, BatcherStopped, DeadlinePassed, DeviceLost, Done, QueueFull
from service.pipeline.batcher import Batcher
from service.pipeline.watchdog import EXIT_CODE, Watchdog

SOON = 60.0


class Doubler:
    """Doubles numbers; a test can hold it back, and some numbers are poison."""

    def __init__(self) -> None:
        self.batches: list[tuple[Modality, list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def __call__(self, modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append((modality, list(queries)))
        if self.failure is not None:
            raise self.failure
        if any(query < 0 for query in queries):
            raise ValueError("poison")
        return [2 * query for query in queries], {"encode": 0.001}


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def batcher(doubler: Doubler) -> Iterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(doubler, max_batch_size=4, max_queue_items=10)
    batcher.start()
    yield batcher
    doubler.gate.set()
    batcher.stop()


def submit(batcher: Batcher[int, int], lane: Modality, *queries: int, within: float = SOON) -> list[Future[Done[int]]]:
    return batcher.submit(lane, queries, time.monotonic() + within)


def hold(batcher: Batcher[int, int], doubler: Doubler) -> Future[Done[int]]:
    """Keep the compute thread busy with one item until the gate opens."""
    doubler.gate.clear()
    [held] = submit(batcher, "image", 1000)
    assert doubler.entered.wait(10)
    return held


def test_answers_come_back_in_order(batcher: Batcher[int, int]) -> None:
    futures = submit(batcher, "text", *range(9))
    assert [future.result(10).answer for future in futures] == [2 * n for n in range(9)]


def test_a_lone_item_does_not_wait_for_company(batcher: Batcher[int, int], doubler: Doubler) -> None:
    [future] = submit(batcher, "image", 1)
    done = future.result(10)
    assert done.batch.size == 1
    assert done.queue_seconds < 1


def test_what_waits_is_taken_together_up_to_the_limit_in_turn(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    futures = [*submit(batcher, "image", 1, 2, 3), *submit(batcher, "image", 4, 5), *submit(batcher, "text", 6, 7)]
    doubler.gate.set()
    wait([held, *futures], 10)
    assert doubler.batches == [("image", [1000]), ("text", [6, 7]), ("image", [1, 2, 3, 4]), ("image", [5])]


def test_a_poisoned_item_fails_alone(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    futures = submit(batcher, "image", 1, -1, 3, 4)
    doubler.gate.set()
    held.result(10)
    assert [futures[i].result(10).answer for i in (0, 2, 3)] == [2, 6, 8]
    with pytest.raises(ValueError, match="poison"):
        futures[1].result(10)


def test_a_late_item_is_not_computed(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    [late], [good] = submit(batcher, "image", 1, within=0.01), submit(batcher, "image", 2)
    time.sleep(0.05)
    doubler.gate.set()
    held.result(10)
    with pytest.raises(DeadlinePassed):
        late.result(10)
    assert good.result(10).answer == 4
    assert ("image", [2]) in doubler.batches


def test_an_item_whose_client_left_is_not_computed(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    [gone], [good] = submit(batcher, "image", 1), submit(batcher, "image", 2)
    assert gone.cancel()
    doubler.gate.set()
    wait([held, good], 10)
    assert doubler.batches == [("image", [1000]), ("image", [2])]


def test_permits_are_counted_per_modality_and_given_back(batcher: Batcher[int, int]) -> None:
    with batcher.admit("image", 10):
        assert not batcher.has_room("image")
        with pytest.raises(QueueFull), batcher.admit("image", 1):
            pytest.fail("no permit was left")
        with batcher.admit("text", 10):
            pass
    assert batcher.has_room("image", coming=9)
    assert not batcher.has_room("image", coming=10), "those that were let in before it have the room"
    with pytest.raises(QueueFull), batcher.admit("image", 11):
        pytest.fail("more than the whole queue")


def test_stopping_refuses_what_waits_and_what_comes(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    [waiting] = submit(batcher, "text", 1)
    stopper = threading.Thread(target=batcher.stop)
    stopper.start()
    doubler.gate.set()
    stopper.join(10)
    assert held.result(10).answer == 2000
    with pytest.raises(BatcherStopped):
        waiting.result(10)
    with pytest.raises(BatcherStopped):
        submit(batcher, "text", 1)
    assert not batcher.alive


def test_X23_a_fault_beside_the_computing_costs_its_batch_and_no_other() -> None:
    restarts: list[int] = []

    def broken_observer(batch: Batch) -> None:
        raise RuntimeError("a bug of ours")

    doubler = Doubler()
    batcher: Batcher[int, int] = Batcher(
        doubler,
        max_batch_size=1,
        max_queue_items=10,
        on_batch=broken_observer,
        on_restart=lambda: restarts.append(1),
    )
    batcher.start()
    futures = submit(batcher, "image", 1, 2, 3)
    assert [future.result(10).answer for future in futures] == [2, 4, 6]
    batcher.stop()
    assert len(restarts) == 3


def test_X21_a_lost_device_refuses_everybody_and_ends_the_batcher(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    waiting = [*submit(batcher, "image", 1, 2), *submit(batcher, "text", 3)]
    doubler.failure = DeviceLost("an illegal address")
    doubler.gate.set()
    for future in (held, *waiting):
        with pytest.raises(BatcherStopped):
            future.result(10)
    with pytest.raises(BatcherStopped):
        submit(batcher, "text", 1)
    assert batcher.lost
    assert not batcher.alive


def test_X19_memory_that_runs_out_halves_the_batch_and_those_after_it() -> None:
    sizes: list[int] = []

    def short_of_memory(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        sizes.append(len(queries))
        if len(queries) > 4 or -1 in queries:
            raise MemoryError
        return [2 * query for query in queries], {}

    batcher: Batcher[int, int] = Batcher(short_of_memory, max_batch_size=32, max_queue_items=100)
    futures = submit(batcher, "image", *range(13), -1, *range(14, 32))
    more = submit(batcher, "image", *range(32, 64))
    batcher.start()
    for number, future in enumerate(futures):
        if number == 13:
            with pytest.raises(MemoryError):
                future.result(10)
        else:
            assert future.result(10).answer == 2 * number
    wait(more, 10)
    batcher.stop()
    assert sizes[:4] == [32, 16, 8, 4]
    after = sizes[sizes.index(1) + 2 :]
    assert max(after) <= 10, "a large batch is tried again only step by step"


@pytest.mark.parametrize(("last_text", "least", "most"), [("now", 2, 5), ("long ago", 9, 20), ("never", 9, 20)])
def test_a_batch_is_as_long_as_its_time_allows_and_longer_beside_a_silent_lane(
    last_text: str, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher_module, "_SILENT_S", 0.0 if last_text == "long ago" else 10.0)
    sizes: list[int] = []

    def slow(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        sizes.append(len(queries))
        time.sleep(0.01 * len(queries))
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(slow, max_batch_size=32, max_queue_items=100, max_batch_s=0.05)
    batcher.start()
    if last_text != "never":
        submit(batcher, "text", 0)[0].result(10)
    for _ in range(2):
        submit(batcher, "image", 0)[0].result(10)
    wait(submit(batcher, "image", *range(40)), 10)
    batcher.stop()
    assert least <= max(sizes) <= most


def test_a_lane_that_waits_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_SILENT_S", 0.0)
    sizes: dict[Modality, list[int]] = {"image": [], "text": []}

    def slow(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        sizes[modality].append(len(queries))
        time.sleep(0.01 * len(queries))
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(slow, max_batch_size=32, max_queue_items=300, max_batch_s=0.05)
    batcher.start()
    for _ in range(2):
        wait([*submit(batcher, "image", 0), *submit(batcher, "text", 0)], 10)
    wait([*submit(batcher, "text", *range(60)), *submit(batcher, "image", *range(30))], 20)
    batcher.stop()
    assert max(sizes["image"]) <= 6, "texts waited behind each of them"


@pytest.mark.parametrize("canary", [0, 1])
def test_X22_a_large_request_right_after_the_start_is_no_batch_that_hangs(canary: int) -> None:
    sizes: list[int] = []

    def slow(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        sizes.append(len(queries))
        time.sleep(0.02 * len(queries) + (0.2 if len(sizes) == 1 else 0.0))  # the first one warms everything up
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(slow, max_batch_size=64, max_queue_items=100, max_batch_s=0.1)
    batcher.start()
    wait(submit(batcher, "image", *range(canary)), 10)
    wait(submit(batcher, "image", *range(40)), 10)
    batcher.stop()
    assert max(sizes) <= 20
    assert min(sizes[2:4]) >= 2  # and the warming up slows nobody down


def test_X24_who_could_not_be_answered_in_time_is_not_admitted() -> None:
    def slow(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        time.sleep(0.02 * len(queries))
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(slow, max_batch_size=4, max_queue_items=1000, max_wait_s=0.2)
    batcher.start()
    for _ in range(2):
        submit(batcher, "image", 0)[0].result(10)  # from now on it knows: 20 ms an image
    with batcher.admit("image", 500):  # alone, it may try
        assert not batcher.has_room("image")
    with batcher.admit("image", 5):
        assert batcher.ahead_s == pytest.approx(0.1, rel=0.5)
        assert batcher.has_room("image")
        with pytest.raises(QueueFull), batcher.admit("image", 6):
            pytest.fail("it would have waited for too long")
        with batcher.admit("text", 500):
            pass  # nothing is known of texts
    batcher.stop()


def test_X24_one_slow_batch_turns_nobody_away_for_long() -> None:
    naps = [1.0, 0.01, 1.0, *[0.001] * 50]  # the first warms up, the third is an accident

    def napping(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        time.sleep(naps.pop(0))
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(napping, max_batch_size=4, max_queue_items=1000, max_wait_s=3.0)
    batcher.start()
    submit(batcher, "image", 0)[0].result(10)
    with batcher.admit("image", 32):
        assert batcher.has_room("image"), "warming up is no measure"
    for _ in range(3):
        submit(batcher, "image", 0)[0].result(10)
    with batcher.admit("image", 32):
        assert batcher.has_room("image"), "one good batch is enough"
    batcher.stop()


def test_who_has_left_takes_no_place_in_a_batch(batcher: Batcher[int, int], doubler: Doubler) -> None:
    held = hold(batcher, doubler)
    waiting = submit(batcher, "image", *range(40))
    for number, future in enumerate(waiting):
        if number % 10:
            future.cancel()
    doubler.gate.set()
    wait([held, *waiting], 10)
    assert [waiting[number].result().answer for number in range(0, 40, 10)] == [0, 20, 40, 60]
    assert doubler.batches[1:] == [("image", [0, 10, 20, 30])], "one batch of four"


def test_X22_the_watchdog_is_patient_where_it_is_told_to_be(batcher: Batcher[int, int], doubler: Doubler) -> None:
    codes: list[int] = []
    dog = Watchdog(batcher, max_batch_s=0.2, end=codes.append)
    dog.start()
    with dog.patient(60):
        held = hold(batcher, doubler)
        time.sleep(1.5)
        assert codes == []
    end = time.monotonic() + 10
    while not codes and time.monotonic() < end:
        time.sleep(0.02)
    doubler.gate.set()
    wait([held], 10)
    dog.stop()
    assert codes == [EXIT_CODE]


@pytest.mark.parametrize("fault", ["lost", "hung", "none"])
def test_X21_X22_the_watchdog_ends_a_process_that_cannot_answer(
    batcher: Batcher[int, int], doubler: Doubler, fault: str
) -> None:
    codes: list[int] = []
    dog = Watchdog(batcher, max_batch_s=0.2, end=codes.append)
    dog.start()
    held = hold(batcher, doubler)
    if fault == "lost":
        doubler.failure = DeviceLost("ECC")
    if fault != "hung":
        doubler.gate.set()
    end = time.monotonic() + (1.5 if fault == "none" else 10)
    while not codes and time.monotonic() < end:
        time.sleep(0.02)
    doubler.gate.set()
    wait([held], 10)
    dog.stop()
    assert codes == ([] if fault == "none" else [EXIT_CODE])


class Meeting:
    """Computes nothing until as many batches as expected are under way, and notes what each may use."""

    def __init__(self, expected: int) -> None:
        self.barrier = threading.Barrier(expected)
        self.shares: dict[str, float] = {}
        self.batches: list[tuple[list[int], float]] = []

    def on_share(self, share: float) -> None:
        self.shares[threading.current_thread().name] = share

    def __call__(self, modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        self.batches.append((list(queries), self.shares[threading.current_thread().name]))
        self.barrier.wait(10)
        return list(queries), {}


def side_by_side(meeting: Meeting, **options: float) -> Batcher[int, int]:
    return Batcher(
        meeting, max_batch_size=32, max_queue_items=100, concurrent_batches=2, on_share=meeting.on_share, **options
    )


def test_two_threads_share_what_waits_and_have_half_of_the_machine_each() -> None:
    meeting = Meeting(2)
    batcher = side_by_side(meeting)
    futures = submit(batcher, "image", *range(9))
    batcher.start()
    assert [future.result(10).answer for future in futures] == list(range(9))  # one after the other would never meet
    batcher.stop()
    assert sorted(meeting.batches) == [([0, 1, 2, 3, 4], 0.5), ([5, 6, 7, 8], 0.5)]


def test_a_batch_that_is_alone_has_the_whole_machine_and_one_that_joins_it_a_half() -> None:
    meeting = Meeting(2)
    batcher = side_by_side(meeting)
    batcher.start()
    [first] = submit(batcher, "image", 0)
    while not meeting.batches:
        time.sleep(0.001)
    [second] = submit(batcher, "text", 1)
    wait([first, second], 10)
    batcher.stop()
    assert meeting.batches == [([0], 1.0), ([1], 0.5)]


def test_batches_that_are_alone_are_the_first_threads() -> None:
    """Whoever computes on all cores keeps a team of threads for it, and a second team has all of them sleep at once."""
    threads: list[str] = []

    def noted(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        threads.append(threading.current_thread().name)
        return list(queries), {}

    shares: list[float] = []
    batcher: Batcher[int, int] = Batcher(
        noted, max_batch_size=32, max_queue_items=100, concurrent_batches=3, on_share=shares.append
    )
    batcher.start()
    for number in range(50):
        [future] = submit(batcher, "text", number)
        assert future.result(10).answer == number
        while batcher.busy_since is not None:  # the thread is not done with a batch that is answered
            time.sleep(0.0001)
    batcher.stop()
    assert set(threads) == {"reco-compute-0"}
    assert set(shares) == {1.0}


def test_a_thread_that_is_behind_another_takes_what_that_leaves() -> None:
    meeting = Meeting(3)
    batcher: Batcher[int, int] = Batcher(
        meeting, max_batch_size=1, max_queue_items=100, concurrent_batches=3, on_share=meeting.on_share
    )
    batcher.start()
    futures = submit(batcher, "image", 0, 1, 2)  # nothing more is submitted that would wake one
    assert [future.result(10).answer for future in futures] == [0, 1, 2]
    batcher.stop()


def test_with_two_threads_a_lost_device_ends_both() -> None:
    meeting = Meeting(1)
    batcher = side_by_side(meeting)

    def lost(share: float) -> None:
        raise DeviceLost("ECC")

    batcher._on_share = lost
    batcher.start()
    futures = submit(batcher, "image", *range(4))
    for future in futures:
        with pytest.raises(BatcherStopped):
            future.result(10)
    batcher.stop()
    assert batcher.lost
    assert not batcher.alive


def test_X22_the_oldest_of_two_batches_is_the_one_that_hangs() -> None:
    meeting = Meeting(3)
    batcher = side_by_side(meeting)
    batcher.start()
    before = time.monotonic()
    [first] = submit(batcher, "image", 0)
    while not meeting.batches:
        time.sleep(0.001)
    between = time.monotonic()
    [second] = submit(batcher, "image", 1)
    while len(meeting.batches) < 2:
        time.sleep(0.001)
    since = batcher.busy_since
    assert since is not None
    assert before <= since <= between
    meeting.barrier.wait(10)
    wait([first, second], 10)
    batcher.stop()
    assert batcher.busy_since is None


def test_X24_a_batch_that_was_joined_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun alone, it had all cores until another began: by its time an item would seem to take twice as long."""
    both = threading.Barrier(2, timeout=10)

    def together(modality: Modality, queries: Sequence[int], /) -> tuple[list[int], Mapping[str, float]]:
        both.wait()
        return list(queries), {}

    batcher: Batcher[int, int] = Batcher(
        together, max_batch_size=1, max_queue_items=1000, max_wait_s=1.0, concurrent_batches=2
    )
    batcher.start()
    shares: list[float] = []
    monkeypatch.setattr(batcher._pace, "learn", lambda _lane, _size, _seconds, share: shares.append(share))
    first = submit(batcher, "image", 1)
    while batcher.busy_since is None:
        time.sleep(0.001)
    wait([*first, *submit(batcher, "image", 2)], 10)
    batcher.stop()
    assert shares == [0.5], "only of the one that began beside the other"
