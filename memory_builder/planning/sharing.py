"""A build divided among machines without an engine: each does its share of the units, and one build finishes.

For Slurm arrays and Kubernetes jobs on a shared file system. Imports errors.py only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from memory_builder.errors import ConfigError

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Share:
    """The `index`-th of `count` workers, from 0: what Slurm's and Kubernetes' array indices count."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """From `i/n`.

        Raises:
            ConfigError: it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not int(found[1]) < int(found[2]):
            raise ConfigError(f"worker is {text!r}: give i/n, with i from 0 to n - 1, like 0/8.")
        return cls(int(found[1]), int(found[2]))

    def of(self, things: Sequence[Thing]) -> list[Thing]:
        """Every `count`-th thing: the shares of all workers are everything, once."""
        return list(things[self.index :: self.count])


@dataclass(frozen=True)
class ShareResult:
    """What a worker did of its share: units in all, and those that an earlier run had finished."""

    units: int
    units_resumed: int
    units_of_all: int
