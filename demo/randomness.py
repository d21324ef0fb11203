"""Dice: random draws that stay the same for ever, so that the demo world needs no stored pictures.

Seeding `random.Random` with text (SHA-512) and `Random.random()` are fixed by Python's documentation;
`choice`, `sample`, `randint` and `uniform` are not, so all of them are built here on `random()` alone.
Imports the standard library only.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Dice:
    """A stream of draws named by a key: equal keys give equal streams on every machine and Python version."""

    def __init__(self, *parts: str | int) -> None:
        """Start the stream named by `parts`.

        Args:
            parts: The key, for example `Dice("shot", species, 12)`. Parts are joined with "/", so
                `Dice("a/b")` and `Dice("a", "b")` are the same stream.

        Raises:
            ValueError: No part was given; an unnamed stream would be shared by accident.
        """
        if not parts:
            raise ValueError("Dice needs at least one key part: Dice('shot', 12)")
        self._stream = random.Random("/".join(str(part) for part in parts))

    def random(self) -> float:
        """The next number in [0, 1)."""
        return self._stream.random()

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return low + (high - low) * self.random()

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included.

        Raises:
            ValueError: `high` is below `low`.
        """
        if high < low:
            raise ValueError(f"no whole number from {low} to {high}")
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability: never at 0, always at 1."""
        return self.random() < probability

    def choice(self, options: Sequence[_T]) -> _T:
        """One of `options`.

        Raises:
            ValueError: `options` is empty.
        """
        if not options:
            raise ValueError("nothing to choose from")
        return options[self.integer(0, len(options) - 1)]

    def sample(self, options: Sequence[_T], count: int) -> list[_T]:
        """`count` different positions of `options`, in random order (a shuffle when `count` is the length).

        Raises:
            ValueError: `count` is negative or above the number of options.
        """
        if not 0 <= count <= len(options):
            raise ValueError(f"cannot take {count} of {len(options)} options")
        pool = list(options)
        for position in range(count):
            other = self.integer(position, len(pool) - 1)
            pool[position], pool[other] = pool[other], pool[position]
        return pool[:count]
