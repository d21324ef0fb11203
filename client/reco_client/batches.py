"""Cut a stream of inputs into requests, lazily: no more is taken from it than is about to be sent.

Standard library only, and images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reco_client.images import ImageSource, image_size

Input = TypeVar("Input")


@dataclass(frozen=True)
class Batch(Generic[Input]):
    """The inputs of one request, and the place of the first in the call."""

    first: int
    inputs: Sequence[Input]


def by_count(inputs: Iterable[Input], count: int) -> Iterator[Batch[Input]]:
    """Batches of `count`."""
    yield from _cut(inputs, count, None)


def by_count_and_bytes(images: Iterable[ImageSource], count: int, max_bytes: int) -> Iterator[Batch[ImageSource]]:
    """Batches of up to `count` images and `max_bytes`; one image alone may be larger, and the service will say so."""
    yield from _cut(images, count, max_bytes)


def _cut(inputs: Iterable[Input], count: int, max_bytes: int | None) -> Iterator[Batch[Input]]:
    if count < 1:
        raise ValueError("a batch holds at least one input")
    first, held, held_bytes = 0, list[Input](), 0
    for one in inputs:
        size = 0 if max_bytes is None else image_size(one)  # type: ignore[arg-type]  # only images are weighed
        if held and (len(held) == count or (max_bytes is not None and held_bytes + size > max_bytes)):
            yield Batch(first, held)
            first, held, held_bytes = first + len(held), [], 0
        held.append(one)
        held_bytes += size
    if held:
        yield Batch(first, held)
