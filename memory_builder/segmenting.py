"""Finished units to segments, in the plan's order. Imports memory's writer and units.py."""

from collections.abc import Sequence
from pathlib import Path

from memory import SegmentRecord, UnitRecord, write_segment
from memory_builder.units import UnitStore

# Mapping a unit takes three file handles, and a process may have 1,024.
MAX_SEGMENT_UNITS = 256


def group_units(units: Sequence[UnitRecord], max_rows: int) -> list[list[UnitRecord]]:
    """Cut units into segments of at most `max_rows` rows; a unit is never cut, however many it has.

    Units of which nothing was stored go with their neighbours; where there is none, they are left out.
    """
    groups: list[list[UnitRecord]] = [[]]
    rows = 0
    for unit in units:
        if rows and (rows + unit.rows > max_rows or len(groups[-1]) == MAX_SEGMENT_UNITS):
            groups.append([])
            rows = 0
        groups[-1].append(unit)
        rows += unit.rows
    return [group for group in groups if any(unit.rows for unit in group)]


def write_units(root: Path, store: UnitStore, units: Sequence[UnitRecord]) -> SegmentRecord:
    """Write finished units as one segment; the same units give the same segment.

    Raises:
        memory.WriteFailed: disk full or I/O error; nothing is kept.
    """
    parts = []
    for unit in units:
        finished = store.load(unit.id)
        assert finished is not None, f"unit {unit.id} was finished under the lock and is gone or damaged"
        parts.append(finished.rows)
    return write_segment(root, parts, units)
