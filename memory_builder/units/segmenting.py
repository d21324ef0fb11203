"""Finished units to segments, in the plan's order. Imports memory's writer and store.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memory import SegmentRecord, UnitRecord, write_segment
from memory_builder.units.admission import Admitted
from memory_builder.units.store import UnitStore

# Mapping a unit takes three file handles, and a process may have 1,024.
MAX_SEGMENT_UNITS = 256


@dataclass(frozen=True)
class FinishedUnit:
    """A unit in the unit store, and what of it enters the memory."""

    record: UnitRecord
    admitted: Admitted


def group_units(units: Sequence[FinishedUnit], max_rows: int) -> list[list[FinishedUnit]]:
    """Cut units into segments of at most `max_rows` rows; a unit is never cut, however many it has.

    Units of which nothing was stored go with their neighbours; where there is none, they are left out.
    """
    groups: list[list[FinishedUnit]] = [[]]
    rows = 0
    for unit in units:
        if rows and (rows + unit.record.rows > max_rows or len(groups[-1]) == MAX_SEGMENT_UNITS):
            groups.append([])
            rows = 0
        groups[-1].append(unit)
        rows += unit.record.rows
    return [group for group in groups if any(unit.record.rows for unit in group)]


def write_units(root: Path, store: UnitStore, units: Sequence[FinishedUnit]) -> SegmentRecord:
    """Write finished units as one segment; the same units give the same segment.

    Raises:
        memory.WriteFailed: disk full or I/O error; nothing is kept.
    """
    parts = []
    for unit in units:
        finished = store.load(unit.record.id)
        assert finished is not None, f"unit {unit.record.id} was finished under the lock and is gone or damaged"
        parts.append(unit.admitted.take(finished.rows))
    return write_segment(root, parts, [unit.record for unit in units])
