"""Images of a unit, batch by batch: put into the lanes, collected in order, noted for a run that goes on."""

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from memory_builder.encoding.begun import BegunUnit
from memory_builder.encoding.decoding import Candidate, Refused
from memory_builder.known_keys import KnownKeys
from memory_builder.records import Record

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    from memory_builder.encoding.lanes.lane import Encoded, Lanes


class _InLanes(NamedTuple):
    """A batch that is being encoded; `lasting` if what the memory holds has no part in what comes of it."""

    batch: list[int]
    lasting: bool
    future: "Future[list[Encoded | Refused]]"


class ImageBatches:
    """The batches of one unit; `known` is what the memory holds."""

    def __init__(self, lanes: "Lanes", known: KnownKeys, begun: BegunUnit) -> None:
        self.known = known
        self._lanes, self._begun = lanes, begun
        self._window: deque[_InLanes] = deque()

    def __len__(self) -> int:
        return len(self._window)

    def begin(self, batch: list[int], records: list[Record]) -> None:
        """Have a batch encoded, if it is not done already."""
        candidates = [Candidate(record, self.known.rival(record.key)) for record in records]
        lasting = all(candidate.rival is None for candidate in candidates)
        done = self._begun.outcomes(batch) if lasting else None
        if done is None:
            future = self._lanes.images(candidates)
        else:
            future = Future()
            future.set_result(done)
        self._window.append(_InLanes(batch, lasting, future))

    def next(self) -> "tuple[list[int], list[Encoded | Refused]]":
        """Wait for the oldest batch."""
        oldest = self._window.popleft()
        outcomes = oldest.future.result()
        self._note(oldest)
        return oldest.batch, outcomes

    def let_go(self) -> None:
        """Drop the batches that have not begun, and note the others."""
        for one in [one for one in reversed(self._window) if not one.future.cancel()]:
            if one.future.exception() is None:
                self._note(one)

    def _note(self, done: _InLanes) -> None:
        if done.lasting:
            self._begun.note(done.batch, done.future.result())
