"""Who is told how far a training is, by what is under way. Imports nothing."""

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def unheard(_what: str, _done: int, _total: int) -> None:
    """Where nobody listens."""
