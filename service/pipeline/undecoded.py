"""How many pixels are admitted and not decoded yet: a file of a megabyte may hold fifty million of them.

Decoding one such file takes up to two seconds, and whoever comes after it waits. Items and bytes do not tell.
Standard library and models' headers only; counted on the event loop, so nothing is locked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from models.images.headers import count_pixels
from service.problems import ItemError


class Undecoded:
    """The pixels of one process."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self.pixels = 0

    @property
    def has_room(self) -> bool:
        """Whether another request may come in. Its own images may then go beyond the limit: it will not be smaller
        when it comes back."""
        return self.pixels < self._max_pixels

    @contextmanager
    def share(self, counts: Sequence[int]) -> Iterator[Callable[[int], None]]:
        """Hold the pixels of a request's images, `counts`, until the block ends, or each until it is decoded.

        Yields:
            called with an image's place when it is decoded; what the end of the block has given back stays so.
        """
        left = dict(enumerate(counts))
        self.pixels += sum(counts)

        def decoded(place: int) -> None:
            self.pixels -= left.pop(place, 0)

        try:
            yield decoded
        finally:
            self.pixels -= sum(left.values())
            left.clear()


def pixels_by_headers(images: Sequence[bytes | ItemError], most: int) -> list[int]:
    """The pixels of each image, as `count_pixels`; 0 for an item that is no image."""
    return [0 if isinstance(image, ItemError) else count_pixels(image, most) for image in images]
