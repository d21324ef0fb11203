"""How many bytes of requests are held at once, so that large bodies cannot fill the host's memory together.

What a client only announces takes no room: bytes count as they arrive, and until their request is answered.
Standard library and problems only; used on the event loop, so nothing is locked.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.problems import Problem


class Bodies:
    """The room of one process."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """What one request takes of the room, given back when the block ends."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held

    def refuse_beyond(self, count: int) -> None:
        """Refuse `count` more bytes if there is no room for them.

        Raises:
            Problem: bodies_full.
        """
        if self.held + count > self._max_bytes:
            raise Problem("bodies_full")


class Share:
    """One request's part."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.held = 0

    def announce(self, count: int) -> None:
        """Refuse early what would not fit now; takes nothing.

        Raises:
            Problem: bodies_full.
        """
        self._bodies.refuse_beyond(count)

    def take(self, count: int) -> None:
        """Hold bytes that have arrived.

        Raises:
            Problem: bodies_full.
        """
        self._bodies.refuse_beyond(count)
        self._bodies.held += count
        self.held += count
