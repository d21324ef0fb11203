"""Cut a stream of inputs into requests, lazily: no more is taken from it than is about to be sent, and none waits for
an input that is not there yet.

Standard library only, and images.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reco_client.images import image_size

Input = TypeVar("Input")


@dataclass(frozen=True)
class Batch(Generic[Input]):
    """The inputs of one request, and the place of the first in the call."""

    first: int
    inputs: Sequence[Input]


class Cutter(Generic[Input]):
    """Collects inputs until they are a request's worth."""

    def __init__(self, count: int, max_bytes: int | None = None) -> None:
        """Nothing is held yet.

        Args:
            count: the most in one batch.
            max_bytes: of images, what they may weigh together; one alone may be larger, and the service will say so.

        Raises:
            ValueError: `count` is none.
        """
        if count < 1:
            raise ValueError("a batch holds at least one input")
        self._count, self._max_bytes = count, max_bytes
        self._first, self._held, self._held_bytes = 0, list[Input](), 0

    def add(self, one: Input) -> Iterator[Batch[Input]]:
        """Take one more; the batches that are whole with it."""
        size = 0 if self._max_bytes is None else image_size(one)  # type: ignore[arg-type]  # only images are weighed
        if self._max_bytes is not None and self._held_bytes + size > self._max_bytes:
            yield from self.rest()
        self._held.append(one)
        self._held_bytes += size
        if len(self._held) == self._count:
            yield from self.rest()

    def rest(self) -> Iterator[Batch[Input]]:
        """What is held, if anything is, as a batch of its own."""
        if self._held:
            batch = Batch(self._first, self._held)
            self._first, self._held, self._held_bytes = self._first + len(self._held), [], 0
            yield batch


def cut(inputs: Iterable[Input], cutter: Cutter[Input]) -> Iterator[Batch[Input]]:
    """The inputs in batches."""
    for one in inputs:
        yield from cutter.add(one)
    yield from cutter.rest()


async def cut_async(
    inputs: Iterable[Input] | AsyncIterable[Input], cutter: Cutter[Input]
) -> AsyncGenerator[Batch[Input], None]:
    """The inputs in batches, whether they are at hand or have to be awaited."""
    if isinstance(inputs, AsyncIterable):
        async for one in inputs:
            for batch in cutter.add(one):
                yield batch
    else:
        for one in inputs:
            for batch in cutter.add(one):
                yield batch
    for batch in cutter.rest():
        yield batch
