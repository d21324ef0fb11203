"""Compact: what is alive, written anew in fewer segments, without the rows that were deleted. numpy, FAISS, pyarrow.

Items keep their keys and their order, which is that of the ids; their ids change, for ids count rows. Segments are
taken in order and joined while they hold at most `max_segment_rows` items; one that is joined with none and has no
deleted row stays the file it is. Units keep their names with the rows that are left of them: a later build knows them.

The digest is another one, for a version names its segments; it depends on the contents and on `max_segment_rows` alone.
A memory that was compacted already stays as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import NothingLeft
from memory.format.manifest import IndexRecord, Manifest, SegmentRecord, UnitRecord
from memory.format.publish import BuildLock, publish_next
from memory.format.rows import Rows
from memory.format.segments import Segment, write_segment
from memory.format.versions import read_manifest
from memory.indexing.building import build_indexes
from memory.indexing.options import IndexOptions, that_suit
from memory.indexing.reports import read_report, wanted_options
from memory.memory import Memory
from memory.neighbours import Modality

MAX_SEGMENT_ROWS: Final = 1_000_000


class _Part(NamedTuple):
    """A segment, and which of its rows stay."""

    record: SegmentRecord
    base_row: int
    stays: NDArray[np.bool_]  # (rows,)


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        before, after: the versions.
        created: False if there was nothing to fold.
        rows_dropped: deleted rows that the new version no longer holds.
        segments_before, segments_after: how many there are.
    """

    before: Manifest
    after: Manifest
    created: bool
    rows_dropped: int
    segments_before: int
    segments_after: int


def compact(root: Path, *, max_segment_rows: int = MAX_SEGMENT_ROWS, stamps: Path | None = None) -> Compaction:
    """Fold deletes and small segments into a new version; needs room for it beside the old one until `gc`.

    Args:
        root: the memory's directory.
        max_segment_rows: segments are joined up to this; one that is larger stays whole.
        stamps: as in `Memory.open`.

    Raises:
        NothingLeft: every item is deleted.
        Locked, WriteFailed, VersionTaken: nothing is changed.
        MemoryStoreError: the memory cannot be opened.
    """
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root), Memory.open(root, stamps=stamps) as memory:
        before, deleted = memory.manifest, memory.deleted_ids()
        memory.close()
        segments = fold(root, before, deleted, max_segment_rows=max_segment_rows)
        created = segments != before.segments or bool(before.deletes)
        after = before
        if created:
            indexes = index_anew(root, before, segments)
            after = publish_next(root, before, segments=segments, indexes=indexes, deletes=())
    return Compaction(before, after, created, len(deleted), len(before.segments), len(segments))


def fold(
    root: Path, manifest: Manifest, dropped: NDArray[np.int64], *, max_segment_rows: int
) -> tuple[SegmentRecord, ...]:
    """Write the segments of a version anew, without some rows; those that would come out the same stay.

    Args:
        root: the memory's directory.
        manifest: the version.
        dropped: ids to leave out, ascending.
        max_segment_rows: as in `compact`.

    Raises:
        NothingLeft: no row would be left.
        SegmentInvalid, WriteFailed, ShardSizeMismatch: as opening and writing segments.
    """
    groups: list[list[_Part]] = []
    rows = 0
    for record, base_row in zip(manifest.segments, manifest.base_rows, strict=True):
        stays = np.ones(record.rows, dtype=np.bool_)
        first, last = np.searchsorted(dropped, (base_row, base_row + record.rows))
        stays[dropped[first:last] - base_row] = False
        alive = int(stays.sum())
        # An empty segment goes with its neighbour: its units are known to have given nothing.
        if not groups or (rows and alive and rows + alive > max_segment_rows):
            groups.append([])
            rows = 0
        groups[-1].append(_Part(record, base_row, stays))
        rows += alive
    if not any(part.stays.any() for group in groups for part in group):
        raise NothingLeft(
            "no item would be left, and a memory holds at least one. To be rid of it, delete its directory."
        )
    return tuple(_written(root, group, manifest.embed_dim) for group in groups)


def index_anew(
    root: Path, before: Manifest, segments: Sequence[SegmentRecord], options: IndexOptions | None = None
) -> dict[Modality, IndexRecord]:
    """A new index generation for each modality; nothing in it comes from dropped rows.

    None wants what was wanted, as far as that can be had of the rows that are left.
    """
    if options is None:
        rows = sum(segment.rows for segment in segments)
        options = that_suit(wanted_options(read_report(root, before.indexes["image"])), rows, before.embed_dim)
    return build_indexes(root, segments, options=options)


def _written(root: Path, group: Sequence[_Part], embed_dim: int) -> SegmentRecord:
    if len(group) == 1 and group[0].stays.all():
        return group[0].record
    opened = [Segment(root, part.record, base_row=part.base_row, embed_dim=embed_dim) for part in group]
    rows = [run for segment, part in zip(opened, group, strict=True) for run in _runs(segment, part.stays)]
    return write_segment(root, rows, [unit for part in group for unit in _units(part)])


def _runs(segment: Segment, stays: NDArray[np.bool_]) -> Iterator[Rows]:
    """The rows that stay, as slices without gaps: nothing is copied before it is written."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], stays, [False])).astype(np.int8)))
    table = segment.table()
    for start, stop in edges.reshape(-1, 2).tolist():
        image, text = segment.side("image")[start:stop], segment.side("text")[start:stop]
        yield Rows(image, text, table.slice(start, stop - start))


def _units(part: _Part) -> Iterator[UnitRecord]:
    start = 0
    for unit in part.record.units:
        yield UnitRecord(unit.id, int(part.stays[start : start + unit.rows].sum()))
        start += unit.rows
