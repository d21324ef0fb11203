"""Few requests begin in a round of the event loop; who is refused meanwhile does not wait for the others."""

import asyncio
from collections.abc import Callable

import pytest

from memory import Modality
from service.door.turns import Turns


def idle() -> bool:
    return False


def test_a_refusal_passes_those_that_wait_for_their_turn() -> None:
    async def run() -> list[object]:
        turns, begun = Turns(idle, 4), list[object]()

        async def let_in(number: int) -> None:
            await turns.take(["text"])
            begun.append(number)

        async def refused() -> None:
            begun.append("refused")

        await asyncio.gather(*(let_in(number) for number in range(100)), refused())
        return begun

    begun = asyncio.run(run())
    assert begun.index("refused") == 4
    begun.remove("refused")
    assert begun == list(range(100)), "first come, first served"


def test_the_loop_looks_for_what_came_between_two_rounds() -> None:
    async def run() -> list[int]:
        turns, begun, seen = Turns(idle, 4), list[int](), list[int]()

        async def let_in(number: int) -> None:
            await turns.take(["text"])
            begun.append(number)

        async def watch() -> None:
            while len(begun) < 40:
                await asyncio.sleep(0)
                seen.append(len(begun))

        await asyncio.gather(watch(), *(let_in(number) for number in range(40)))
        return seen

    seen = asyncio.run(run())
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 4


def test_those_that_wait_are_counted_by_what_they_fill_until_they_begin_or_leave() -> None:
    async def run() -> None:
        turns = Turns(idle, 1)
        queues: list[list[Modality]] = [["text"], ["text"], ["image", "text"]]
        tasks = [asyncio.create_task(turns.take(queue)) for queue in queues]
        await asyncio.sleep(0)
        assert (turns.coming["text"], turns.coming["image"]) == (2, 1), "the first one did not wait"
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert (turns.coming["text"], turns.coming["image"]) == (0, 0)
        await asyncio.wait_for(turns.take(["text"]), 5)  # no turn is lost with one that left

    asyncio.run(run())


def test_who_comes_alone_never_waits() -> None:
    async def run() -> None:
        turns = Turns(idle, 1)
        for _ in range(3):
            with pytest.raises(StopIteration):
                turns.take(["text"]).send(None)  # done without giving the loop away
            await asyncio.sleep(0)

    asyncio.run(run())


def test_where_there_is_work_enough_the_loop_has_a_pause_between_two_rounds() -> None:
    async def run(has_enough: Callable[[], bool]) -> int:
        turns, begun, looks = Turns(has_enough, 1), list[int](), 0

        async def let_in(number: int) -> None:
            await turns.take(["text"])
            begun.append(number)

        tasks = [asyncio.create_task(let_in(number)) for number in range(3)]
        while len(begun) < 3:
            await asyncio.sleep(0)
            looks += 1
        await asyncio.gather(*tasks)
        return looks

    assert asyncio.run(run(idle)) < 10
    assert asyncio.run(run(lambda: True)) > 50
