"""Streams take no more than is under way, may have to be awaited, and leave nothing behind."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from scripted_service import Reply, both, npy, problem

from reco_client import AsyncClient, Client, Retries


def threads_of_clients() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reco-client")]


def test_texts_may_have_to_be_awaited(scripted: Any) -> None:
    server = scripted(lambda number: npy(2 if number < 2 else 1))

    async def texts() -> AsyncIterator[str]:
        for number in range(5):
            await asyncio.sleep(0)
            yield f"text {number}"

    async def ask() -> Any:
        async with AsyncClient(server.url, texts_per_request=2, in_flight=1) as client:
            return await client.embed_texts(texts())

    assert asyncio.run(ask()).vectors.shape == (5, 4)
    assert [len(json.loads(body)["texts"]) for body in server.bodies] == [2, 2, 1]


@both
def test_no_more_is_taken_of_a_stream_than_is_under_way(scripted: Any, kind: str) -> None:
    taken = itertools.count()
    server = scripted(lambda number: npy(2))
    texts = (f"text {number}" for number in taken)  # without end

    if kind == "sync":
        with Client(server.url, in_flight=3, texts_per_request=2) as client:
            stream = client.stream_texts(texts)
            parts = [next(stream) for _ in range(5)]
            stream.close()
    else:

        async def ask() -> Any:
            async with AsyncClient(server.url, in_flight=3, texts_per_request=2) as client:
                stream: Any = client.stream_texts(texts)
                found = [await anext(stream) for _ in range(5)]
                await stream.aclose()
                return found

        parts = asyncio.run(ask())
    assert [part.vectors.shape for part in parts] == [(2, 4)] * 5
    assert next(taken) <= (5 + 3) * 2 + 1
    assert server.most_at_once <= 3
    assert not threads_of_clients()


def test_a_stream_that_nobody_reads_on_is_not_tried_again(scripted: Any) -> None:
    def by_text(number: int) -> Reply:  # two are sent at once, and either may arrive first
        return npy(1) if b"text 0" in server.bodies[number] else problem(503, "queue_full")

    server = scripted(by_text)
    waits = Retries(attempts=99, first_s=0.3, longest_s=0.3)
    with Client(server.url, in_flight=2, texts_per_request=1, retries=waits) as client:
        stream = client.stream_texts(f"text {number}" for number in range(9))
        next(stream)
        assert threads_of_clients()
        started = time.monotonic()
        stream.close()
        assert time.monotonic() - started < 5
    assert not threads_of_clients()  # a program would wait for them at its end


@both
def test_an_answer_that_is_there_does_not_wait_until_as_many_as_may_be_are_under_way(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy(1))
    taken = []

    def texts() -> Iterator[str]:  # as somebody types them, or a camera sees them
        for number in range(8):
            taken.append(number)
            yield f"text {number}"
            time.sleep(0.1)

    if kind == "sync":
        with Client(server.url, in_flight=8, texts_per_request=1) as client:
            before = [len(taken) for _ in client.stream_texts(texts())]
    else:

        async def typed() -> AsyncIterator[str]:
            for number in range(8):
                taken.append(number)
                yield f"text {number}"
                await asyncio.sleep(0.1)

        async def ask() -> list[int]:
            async with AsyncClient(server.url, in_flight=8, texts_per_request=1) as client:
                return [len(taken) async for _ in client.stream_texts(typed())]

        before = asyncio.run(ask())
    assert len(before) == 8
    assert before[0] <= 4  # it had been all eight


def test_an_answer_does_not_wait_for_an_input_that_is_awaited(scripted: Any) -> None:
    server = scripted(lambda number: npy(1))

    async def ask() -> list[str]:
        said: list[str] = []
        heard = asyncio.Event()

        async def texts() -> AsyncIterator[str]:  # as in a talk: the next comes after the answer to the last
            for number in range(3):
                said.append("text")
                yield f"text {number}"
                await heard.wait()
                heard.clear()

        async with AsyncClient(server.url, texts_per_request=1) as client, asyncio.timeout(10):
            async for _ in client.stream_texts(texts()):
                said.append("answer")
                heard.set()
        return said

    assert asyncio.run(ask()) == ["text", "answer"] * 3


def test_inputs_that_fail_do_so_after_what_they_gave_is_answered(scripted: Any) -> None:
    server = scripted(lambda number: npy(1))

    async def texts() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        raise OSError("the camera is gone")

    async def ask() -> list[Any]:
        parts: list[Any] = []
        async with AsyncClient(server.url, texts_per_request=1) as client:
            with pytest.raises(OSError, match="camera"):
                async for part in client.stream_texts(texts()):
                    parts += [part]
        assert len(asyncio.all_tasks()) == 1
        return parts

    assert len(asyncio.run(ask())) == 2


def test_inputs_that_fail_in_a_thread_do_so_after_what_they_gave_is_answered(scripted: Any) -> None:
    server = scripted(lambda number: replace(npy(1), delay_s=0.05))

    def texts() -> Iterator[str]:
        yield from map(str, range(10))
        raise OSError("the camera is gone")

    parts: list[Any] = []
    with Client(server.url, texts_per_request=1) as client, pytest.raises(OSError, match="camera"):
        for part in client.stream_texts(texts()):
            parts += [part]
    assert len(parts) == 10 and not threads_of_clients()


def test_a_stream_that_is_cancelled_twice_leaves_no_request(scripted: Any) -> None:
    """The second time while its inputs are still closing."""
    server = scripted(lambda number: Reply(delay_s=1.0))

    async def texts() -> AsyncIterator[str]:
        try:
            for number in range(2):
                yield f"text {number}"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)

    async def use(client: AsyncClient) -> None:
        async for _ in client.stream_texts(texts()):
            pass

    async def ask() -> list[str]:
        async with AsyncClient(server.url, in_flight=3, texts_per_request=1) as client:
            used = asyncio.create_task(use(client))
            await asyncio.sleep(0.2)
            for _ in range(2):
                used.cancel()
                await asyncio.sleep(0.1)
            ended = await asyncio.gather(used, return_exceptions=True)
            assert isinstance(ended[0], asyncio.CancelledError)
            return [str(task.get_coro()) for task in asyncio.all_tasks() if "one" in str(task.get_coro())]

    assert asyncio.run(ask()) == []


def test_a_stream_that_is_left_ends_its_inputs_and_its_requests(scripted: Any) -> None:
    server = scripted(lambda number: replace(npy(1), delay_s=0.5 * number))
    ended = []

    async def texts() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def ask() -> None:
        async with AsyncClient(server.url, texts_per_request=1) as client:
            stream: Any = client.stream_texts(texts())
            await anext(stream)
            await asyncio.sleep(0.05)
            await stream.aclose()
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())
    assert ended


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_nothing_under_way_is_refused_and_not_waited_for(kind: Any) -> None:
    with pytest.raises(ValueError, match="in_flight is at least 1"):
        kind("http://127.0.0.1:9", in_flight=0)
