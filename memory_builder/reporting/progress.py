"""How a build tells what it does: the command line shows it, programs may pass none. Imports nothing."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives the build's progress; called from the building thread only."""

    def stage(self, name: str) -> None:
        """The build has begun `name`: plan, encode (read, of embeddings), segments, duplicates, index, publish."""

    def start(self, total_rows: int) -> None:
        """That stage begins; `total_rows` rows are to be read, those done in an earlier run not among them."""

    def kept(self, units: int, rows: int, images: int) -> None:
        """An earlier run, stopped, left `units` finished with their `rows`, and `images` of units that it had begun."""

    def advance(self, rows: int, rejected: int) -> None:
        """`rows` more rows were read, `rejected` of them refused; rows that are there already are not."""

    def lanes(self, seconds: Mapping[str, float]) -> None:
        """Where the encoder's time has gone so far: decode (or waiting for it), copy, encode, and `total` of it all."""

    def done(self) -> None:
        """The build ended, well or not."""


class Silent:
    """A Progress that shows nothing."""

    def stage(self, name: str) -> None:
        """Ignored."""

    def start(self, total_rows: int) -> None:
        """Ignored."""

    def kept(self, units: int, rows: int, images: int) -> None:
        """Ignored."""

    def advance(self, rows: int, rejected: int) -> None:
        """Ignored."""

    def lanes(self, seconds: Mapping[str, float]) -> None:
        """Ignored."""

    def done(self) -> None:
        """Ignored."""
