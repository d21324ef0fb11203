"""Waiting for several: what the first failure, and who stops waiting, leave behind."""

import asyncio

import pytest

from service.pipeline.waiting import together


async def endless(number: int, ended: list[int]) -> None:
    """Ends when it is cancelled, a turn of the loop later, and says so."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        ended.append(number)


def test_the_first_failure_is_raised_once_the_others_have_ended() -> None:
    ended: list[int] = []

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("as is")

    async def run() -> None:
        with pytest.raises(ValueError, match="as is"):
            await together([endless(0, ended), fail(), endless(1, ended)])
        assert sorted(ended) == [0, 1]

    asyncio.run(run())


def test_who_stops_waiting_leaves_nothing_running() -> None:
    ended: list[int] = []

    async def run() -> None:
        waiting = asyncio.ensure_future(together([endless(0, ended), endless(1, ended)]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert sorted(ended) == [0, 1]

    asyncio.run(run())
