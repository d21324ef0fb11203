"""Receiving: what can be refused before the body is, and work ends with its client."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from service.door.bodies import Bodies, Share
from service.door.receive import ClientLeft, read_body, unless_client_leaves
from service.problems import Problem


def request(messages: Sequence[Message], share: Share | None = None, **headers: str) -> tuple[Request, list[Message]]:
    """A request that will receive these messages, and the list of those it has not asked for yet."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"body": share or Share(Bodies(2**20))}
    return Request({"type": "http", "headers": raw, "method": "POST", "path": "/", "state": state}, receive), left


def chunk(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": bytes(size), "more_body": more}


def test_a_body_of_exactly_the_limit_is_read() -> None:
    asked, _ = request([chunk(60), chunk(40, more=False)], content_length="100")
    assert asyncio.run(read_body(asked, 100)) == bytes(100)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content_length": "101"}, "body_too_large"),
        ({"content_length": "9" * 5000}, "body_too_large"),
        ({"content_encoding": "gzip"}, "content_encoding_unsupported"),
        ({"content_encoding": "identity, gzip"}, "content_encoding_unsupported"),
    ],
)
def test_nothing_is_read_when_the_headers_say_enough(headers: dict[str, str], code: str) -> None:
    asked, left = request([chunk(101, more=False)], **headers)
    with pytest.raises(Problem, match=code):
        asyncio.run(read_body(asked, 100))
    assert len(left) == 1


def test_reading_stops_at_the_limit() -> None:
    asked, left = request([chunk(60), chunk(60), chunk(60), chunk(0, more=False)])
    with pytest.raises(Problem, match="body_too_large"):
        asyncio.run(read_body(asked, 100))
    assert len(left) == 2


def test_a_client_that_leaves_in_mid_body() -> None:
    asked, _ = request([chunk(60), {"type": "http.disconnect"}])
    with pytest.raises(ClientLeft):
        asyncio.run(read_body(asked, 100))


def test_bodies_share_a_room_and_give_it_back() -> None:
    room = Bodies(150)
    with room.share() as first:
        asked, _ = request([chunk(60), chunk(40, more=False)], first)
        asyncio.run(read_body(asked, 100))
        assert room.held == 100
        with room.share() as second:
            asked, left = request([chunk(60, more=False)], second, content_length="60")
            with pytest.raises(Problem, match="bodies_full"):
                asyncio.run(read_body(asked, 100))  # what is announced is refused unread
            assert (len(left), room.held) == (1, 100)
            asked, left = request([chunk(40), chunk(40), chunk(40, more=False)], second)
            with pytest.raises(Problem, match="bodies_full"):
                asyncio.run(read_body(asked, 200))  # what is not, where it does not fit any more
            assert (len(left), room.held) == (1, 140)
        assert room.held == 100
    assert room.held == 0


def test_an_announced_body_takes_no_room_before_it_comes() -> None:
    room = Bodies(100)
    with room.share() as slow, room.share() as quick:
        slow.announce(100)
        asked, _ = request([chunk(100, more=False)], quick, content_length="100")
        assert len(asyncio.run(read_body(asked, 100))) == 100


def test_work_is_cancelled_when_the_client_leaves() -> None:
    async def scenario() -> bool:
        asked, _ = request([{"type": "http.disconnect"}])
        cancelled = False

        async def work() -> None:
            nonlocal cancelled
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled = True
                raise

        with pytest.raises(ClientLeft):
            await unless_client_leaves(asked, work())
        return cancelled

    assert asyncio.run(scenario())


def test_a_result_or_a_problem_comes_through() -> None:
    async def answer() -> int:
        return 5

    async def refuse() -> int:
        raise Problem("queue_full")

    asked, _ = request([])
    assert asyncio.run(unless_client_leaves(asked, answer())) == 5
    with pytest.raises(Problem, match="queue_full"):
        asyncio.run(unless_client_leaves(asked, refuse()))
