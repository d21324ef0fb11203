"""Waiting for several: what the first failure leaves behind."""

import asyncio

import pytest

from service.pipeline.waiting import gather


def test_the_first_failure_is_raised_once_the_others_have_ended() -> None:
    ended: list[int] = []

    async def other(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("as is")

    async def run() -> None:
        with pytest.raises(ValueError, match="as is"):
            await gather([other(0), fail(), other(1)])
        assert sorted(ended) == [0, 1]

    asyncio.run(run())


def test_who_stops_waiting_leaves_nothing_running() -> None:
    ended: list[int] = []

    async def other(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async def run() -> None:
        waiting = asyncio.ensure_future(gather([other(0), other(1)]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert sorted(ended) == [0, 1]

    asyncio.run(run())
