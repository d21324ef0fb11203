"""The class cache: what it keeps, what it shares, what it forgets; and that `/classify` says the same with it."""

import asyncio
import base64
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.classes.class_cache import ClassCache, class_key, free
from service.classes.class_embeddings import Classes
from service.observing.metrics import Metrics
from service.pipeline.engine import Engine
from service.problems import Problem

LATER = time.monotonic() + 3600
ENTRY_BYTES = 2048 + 400


class Source:
    """Computes classes of 400 bytes, slowly, and counts how often it was asked and how often it was cut."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.started = self.ended = 0
        self.failure = failure

    async def __call__(self, deadline: float) -> Classes:
        self.started += 1
        self.deadline = deadline
        await asyncio.sleep(0.02)
        if self.failure is not None:
            raise self.failure
        self.ended += 1
        return Classes(np.full((10, 10), self.started, dtype=np.float32))


def lookups(cache: ClassCache) -> dict[str, float]:
    samples = cache._metrics.class_cache.collect()[0].samples
    return {sample.labels["outcome"]: sample.value for sample in samples}


def test_what_was_computed_is_kept_and_the_least_recently_used_goes_first() -> None:
    async def scenario() -> None:
        cache, sources = ClassCache(2 * ENTRY_BYTES, Metrics()), {key: Source() for key in "abc"}
        for key in "abaca":  # a is used again before c comes: b goes
            await cache.get(key, LATER, sources[key], free)
        assert [key for key in "abc" if cache.peek(key) is not None] == ["a", "c"]
        assert [sources[key].started for key in "abc"] == [1, 1, 1]
        assert lookups(cache) == {"miss": 3, "hit": 2}
        assert cache.bytes == 2 * ENTRY_BYTES

    asyncio.run(scenario())


def test_nothing_is_kept_of_what_is_larger_than_the_cache() -> None:
    async def scenario() -> None:
        cache, source = ClassCache(ENTRY_BYTES - 1, Metrics()), Source()
        for _ in range(2):
            await cache.get("a", LATER, source, free)
        assert (source.started, cache.peek("a")) == (2, None)

    asyncio.run(scenario())


def test_those_who_ask_meanwhile_share_one_computation() -> None:
    async def scenario() -> None:
        cache, source = ClassCache(0, Metrics()), Source()
        found = await asyncio.gather(*(cache.get("a", LATER, source, free) for _ in range(8)))
        assert source.started == 1
        assert all(classes is found[0] for classes in found)
        assert lookups(cache) == {"miss": 1, "joined": 7}

    asyncio.run(scenario())


def test_who_begins_a_computation_pays_and_whoever_joins_does_not() -> None:
    async def scenario() -> None:
        cache, source, paid = ClassCache(10**6, Metrics()), Source(), list[str]()

        def poor() -> Callable[[], None]:
            raise Problem("rate_limited")

        def rich(name: str) -> Callable[[], None]:
            paid.append(name)
            return lambda: paid.remove(name)

        refused = cache.get("a", LATER, source, poor)
        others = (cache.get("a", LATER, source, partial(rich, name)) for name in "xy")
        found = await asyncio.gather(refused, *others, return_exceptions=True)
        assert getattr(found[0], "code", None) == "rate_limited"
        assert found[1] is found[2]
        await cache.get("a", LATER, source, poor)
        assert (source.started, paid) == (1, ["x"])

    asyncio.run(scenario())


def test_what_comes_to_nothing_is_paid_back() -> None:
    async def scenario() -> None:
        cache, bad, slow, paid = ClassCache(10**6, Metrics()), Source(Problem("queue_full")), Source(), [0]

        def pay() -> Callable[[], None]:
            paid[0] += 1
            return lambda: paid.append(paid.pop() - 1)

        with pytest.raises(Problem, match="queue_full"):
            await cache.get("a", LATER, bad, pay)
        assert paid == [0]
        leaving = asyncio.ensure_future(cache.get("b", LATER, slow, pay))
        await asyncio.sleep(0.005)
        assert paid == [1]
        leaving.cancel()
        await asyncio.sleep(0.05)
        assert paid == [0]

    asyncio.run(scenario())


def test_what_is_computed_twice_takes_room_once() -> None:
    """One computation ends, whoever waited leaves and the next asks, all in one turn of the loop."""

    async def scenario() -> None:
        cache, gate = ClassCache(8 * ENTRY_BYTES, Metrics()), asyncio.get_running_loop().create_future()
        classes = Classes(np.zeros((10, 10), dtype=np.float32))

        async def gated(_: float) -> Classes:
            await gate
            return classes

        async def at_once(_: float) -> Classes:
            return classes

        first = asyncio.ensure_future(cache.get("a", LATER, gated, free))
        await asyncio.sleep(0.01)
        gate.set_result(None)
        first.cancel()
        await asyncio.ensure_future(cache.get("a", LATER, at_once, free))
        await asyncio.sleep(0.01)
        kept = [key for key in "ab" if cache.peek(key) is not None]
        assert kept == ["a"] and cache.bytes == ENTRY_BYTES

    asyncio.run(scenario())


def test_a_failure_reaches_all_and_is_not_kept() -> None:
    async def scenario() -> None:
        cache, bad, good = ClassCache(10**6, Metrics()), Source(Problem("text_empty")), Source()
        found = await asyncio.gather(*(cache.get("a", LATER, bad, free) for _ in range(3)), return_exceptions=True)
        assert [getattr(one, "code", None) for one in found] == ["text_empty"] * 3
        await cache.get("a", LATER, good, free)
        assert good.ended == 1

    asyncio.run(scenario())


def test_the_first_may_leave_and_the_last_ends_it() -> None:
    async def scenario() -> None:
        cache, source = ClassCache(10**6, Metrics()), Source()
        first, second = (asyncio.ensure_future(cache.get("a", LATER, source, free)) for _ in range(2))
        await asyncio.sleep(0.005)
        first.cancel()
        await second
        assert (source.started, source.ended) == (1, 1)

        left = [asyncio.ensure_future(cache.get("b", LATER, source, free)) for _ in range(2)]
        await asyncio.sleep(0.005)
        for task in left:
            task.cancel()
        await asyncio.sleep(0)
        await cache.get("b", LATER, source, free)  # whoever comes at that moment joins no computation that is ending
        assert (source.started, source.ended) == (3, 2)

    asyncio.run(scenario())


def test_what_takes_longer_than_who_asked_has_goes_on_for_who_asks_again() -> None:
    async def scenario() -> None:
        cache, source, paid = ClassCache(10**6, Metrics()), Source(), [0]

        def pay() -> Callable[[], None]:
            paid[0] += 1
            return lambda: paid.append(paid.pop() - 1)

        soon = time.monotonic() + 0.005
        first = asyncio.ensure_future(cache.get("a", soon, source, pay))
        second = asyncio.ensure_future(cache.get("b", soon, source, pay))
        later = asyncio.ensure_future(cache.get("b", LATER, source, pay))
        for one in (first, second):
            with pytest.raises(Problem, match="deadline_exceeded"):
                await one
        assert source.ended == 0 and source.deadline > soon + 10
        again = await cache.get("a", LATER, source, pay)
        await later
        assert (source.started, source.ended, paid) == (2, 2, [2])
        assert cache.peek("a") is again
        assert lookups(cache) == {"miss": 2, "joined": 2}

    asyncio.run(scenario())


def test_who_joins_what_nobody_had_time_for_may_leave_and_end_it() -> None:
    async def scenario() -> None:
        cache, source = ClassCache(10**6, Metrics()), Source()
        with pytest.raises(Problem, match="deadline_exceeded"):
            await cache.get("a", time.monotonic() + 0.005, source, free)
        joined = asyncio.ensure_future(cache.get("a", LATER, source, free))
        await asyncio.sleep(0)
        joined.cancel()
        await asyncio.sleep(0.05)
        assert (source.started, source.ended, cache._left, cache._flights) == (1, 0, {}, {})

    asyncio.run(scenario())


def test_of_many_that_nobody_waits_for_the_oldest_end_and_all_at_the_stop() -> None:
    async def scenario() -> None:
        cache, sources = ClassCache(10**6, Metrics()), {key: Source() for key in "abcdef"}
        for key, source in sources.items():
            with pytest.raises(Problem, match="deadline_exceeded"):
                await cache.get(key, time.monotonic(), source, free)
        await asyncio.sleep(0.05)
        assert [source.ended for source in sources.values()] == [0, 0, 1, 1, 1, 1]
        slow = Source()
        with pytest.raises(Problem, match="deadline_exceeded"):
            await cache.get("g", time.monotonic(), slow, free)
        cache.stop()
        await asyncio.sleep(0.05)
        assert (slow.started, slow.ended, cache._left, cache._flights) == (1, 0, {}, {})

    asyncio.run(scenario())


def test_the_key_names_everything(engine: Engine) -> None:
    asked: list[tuple[Any, ...]] = [
        (["a", "b"], ["{}"], "both", 4),
        (["b", "a"], ["{}"], "both", 4),
        (["a", "b"], ["{}."], "both", 4),
        (["a", "b", "{}"], [], "both", 4),
        (["a", "b"], ["{}"], "text", 4),
        (["a", "b"], ["{}"], "none", 4),
        (["a", "b"], ["{}"], "both", 5),
    ]
    keys = [class_key(engine, *one) for one in asked]
    assert len(set(keys)) == len(keys)
    assert keys[0] == class_key(engine, ("a", "b"), ("{}",), "both", 4)
    assert class_key(engine, ["a"], ["{}"], "none", 4) == class_key(engine, ["a"], ["{}"], "none", 5)


def test_another_memory_or_fusion_is_another_key(engine: Engine, make_settings: Any) -> None:
    plain = Engine.open(make_settings(fusion=None))
    assert class_key(engine, ["a"], ["{}"], "text", 4) != class_key(plain, ["a"], ["{}"], "text", 4)


@pytest.mark.parametrize("mode", ["both", "image", "text", "none"])
def test_a_repeated_request_encodes_no_text_and_says_the_same(
    serve: Any, photo_bytes: dict[str, bytes], mode: str
) -> None:
    body = {
        "images": [base64.b64encode(photo_bytes["jpeg"]).decode()],
        "labels": ["songbird", "duck", "raptor"],
        "enhance": mode,
    }
    with serve() as fresh:
        series = 'reco_items_total{modality="text",outcome="ok"}'

        def ask() -> tuple[Any, float]:
            answer = fresh.client.post("/classify", json=body)
            assert answer.status_code == 200, answer.text
            lines = dict(line.rsplit(" ", 1) for line in fresh.client.get("/metrics").text.splitlines())
            return answer.json()["data"], float(lines.get(series, 0))

        first, texts = ask()
        second, texts_after = ask()
        assert texts_after == texts > 0
        np.testing.assert_allclose(first[0]["probabilities"], second[0]["probabilities"], atol=1e-6)
        assert 'reco_class_cache_lookups_total{outcome="hit"} 1.0' in fresh.client.get("/metrics").text
