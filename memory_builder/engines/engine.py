"""What an engine is: units of the plan go in, and come out finished: mapped, and whole in the unit store.

A unit's bytes depend on the unit and on the memory as the build began, and on nothing else: not on the engine, the
number of its workers, or the order in which they finish. What ties units together (one key, one row) is decided by the
build's books, in the plan's order, and so is the commit: an engine that dies loses the units it had in hand.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from memory_builder.encoding.begun import BegunUnit
from memory_builder.encoding.mapper import Checkpoint, MappedUnit
from memory_builder.known_keys import KnownKeys
from memory_builder.planning.plan import Unit
from memory_builder.planning.task import UnitMapper


@dataclass(frozen=True)
class Job:
    """What the units of one build have in common.

    Attributes:
        root: of the memory; finished units go to its UnitStore, which must be the same for every worker.
        known: the keys of the memory as the build began. Plain data: it may be sent to another process.
        mapper: maps units in this process; an engine of other processes opens mappers of its own there.
        lanes: may be told where the encoder's time goes, as Progress.lanes.
    """

    root: Path
    known: KnownKeys
    mapper: AbstractContextManager[UnitMapper]
    lanes: Callable[[Mapping[str, float]], None] = lambda seconds: None


class Engine(Protocol):
    """Does units."""

    def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
        """Map units and save each in the unit store.

        Args:
            units: of the plan, none of them finished.
            job: what they have in common.
            checkpoint: called with rows read and rejected since the last call, from where the iterator is advanced: at
                least every second, and after the last unit.

        Yields:
            The id of each unit as soon as it is durable, in any order. Closed early, or stopped by an error, the
            engine lets go of its workers; what was yielded stays finished.

        Raises:
            CorpusError: a source cannot be read on.
            EncoderError: the encoder is unusable.
            memory.WriteFailed: disk full or I/O error.
            Whatever `checkpoint` raises.
        """


def map_whole(
    unit: Unit, mapper: UnitMapper, known: KnownKeys, checkpoint: Checkpoint, begun: BegunUnit | None = None
) -> MappedUnit:
    """Map a unit, every row of it."""
    mapped = mapper.map_unit(unit.reader.read(unit.piece), known, checkpoint, begun)
    rows = mapped.rows.items.num_rows + len(mapped.rejected)
    assert rows == unit.piece.rows, f"unit {unit.id}: {unit.piece.rows} rows planned, {rows} accounted for"
    return mapped
