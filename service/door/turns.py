"""Turns: few requests begin in a round of the event loop, so that who is refused does not wait for all who are let in.

In a burst hundreds of requests find room in the queues, and to take one apart costs what refusing four does: whoever
was refused behind them waited for half a second. Those let in have seconds; they wait, and refusals pass them. libuv
accepts one connection a round, so where there is work enough a round takes a pause, and connections are accepted first.
Depends on nothing of the service.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from memory import Modality

_A_ROUND = 4  # some two milliseconds of one core
_PAUSE_S = 0.01


class Turns:
    """Of one event loop; not for threads."""

    def __init__(self, has_enough: Callable[[], bool], a_round: int = _A_ROUND) -> None:
        """Begin with a whole round.

        Args:
            has_enough: whether what computes will not run out of work within a pause.
            a_round: how many begin together.
        """
        self._has_enough = has_enough
        self._a_round = self._left = a_round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._coming: Counter[Modality] = Counter()
        self._scheduled = False

    @property
    def coming(self) -> Mapping[Modality, int]:
        """How many wait for their turn, by what they wait for."""
        return self._coming

    async def take(self, queues: Sequence[Modality]) -> None:
        """Wait for a turn, first come first served; at once while this round of the loop has some left.

        Args:
            queues: what the request will fill: counted in `coming` while it waits.
        """
        self._schedule()
        if self._left:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._coming.update(queues)
        try:
            await turn
        finally:
            self._coming.subtract(queues)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            if self._has_enough():
                loop.call_later(_PAUSE_S, self._next_round)
            else:
                loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        """The loop has looked for what came meanwhile."""
        self._scheduled, self._left = False, self._a_round
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its request was cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting or self._left < self._a_round:
            self._schedule()
