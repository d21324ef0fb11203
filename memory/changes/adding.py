"""Add: one commit that puts encoded pairs into a memory. numpy and pyarrow.

For a few pairs at a time, from a program that has the encoder running; a corpus is `memory_builder`'s. What is added in
many small steps shares a segment up to `MAX_SHARED_ROWS` rows, so that the memory does not fall into tiny shards.
Nothing is trained: the indices there are go on, and say when they are due for more (`outgrown`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.errors import KeyTaken, RowsInvalid
from memory.format.deletes import write_deletes
from memory.format.manifest import DeleteRecord, Manifest, SegmentRecord, UnitRecord
from memory.format.publish import BuildLock, publish_next
from memory.format.removed import key_hash, read_removed, write_removed
from memory.format.rows import Rows
from memory.format.segments import Segment, write_segment
from memory.format.versions import read_manifest
from memory.indexing.building import build_indexes
from memory.memory import Memory

MAX_SHARED_ROWS: Final = 1024
_UNIT: Final = "added-"


@dataclass(frozen=True)
class Addition:
    """What came of an addition.

    Attributes:
        version: of the memory now.
        digest: its content digest.
        created: whether the addition made that version; False if every pair was there already.
        added: keys of the pairs stored.
        present: keys of pairs that were there already, image, caption and all.
        replaced: how many pairs made way for another one of their key.
        num_items: items of the memory.
    """

    version: int
    digest: str
    created: bool
    added: tuple[str, ...]
    present: tuple[str, ...]
    replaced: int
    num_items: int


def add_rows(
    root: Path, rows: Rows, *, encoder: Mapping[str, Any], replace: bool = False, stamps: Path | None = None
) -> Addition:
    """Add pairs to the newest version of a memory.

    A key that was removed and is added again is no longer a removed one.

    Args:
        root: the memory's directory.
        rows: the pairs; each key once.
        encoder: record of the encoder that made them.
        replace: let another pair of a stored key take its place, instead of refusing.
        stamps: as in `Memory.open`.

    Raises:
        KeyTaken: a key is stored with another image or caption; nothing is changed.
        RowsInvalid: rows that are malformed, or name a key twice; nothing is changed.
        Locked, WriteFailed, VersionTaken: nothing is changed.
        EncoderMismatch, MemoryStoreError: the memory cannot be opened.
    """
    keys = rows.items.column("key").to_pylist()
    if len(set(keys)) < len(keys):
        raise RowsInvalid("a key is named twice")
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root), Memory.open(root, encoder=encoder, stamps=stamps) as memory:
        stored = _stored(memory, keys)
        new, present, taken = _judge(rows, memory, stored)
        if taken and not replace:
            raise KeyTaken(taken)
        manifest, replaced = memory.manifest, [stored[key] for key in taken]
        if new:
            manifest = _commit(root, manifest, _chosen(rows, new), replaced)
        return Addition(
            manifest.version,
            manifest.digest,
            bool(new),
            tuple(keys[place] for place in new),
            tuple(present),
            len(replaced),
            manifest.counts["items"],
        )


def added_ids(memory: Memory) -> NDArray[np.int64]:
    """Ids, ascending, of the items that additions put there and nothing took out since: the rows of their units.

    No row is read, and folding a memory keeps the units of its rows.
    """
    found = [np.empty(0, dtype=np.int64)]
    for segment, base_row in zip(memory.manifest.segments, memory.manifest.base_rows, strict=True):
        first = base_row
        for unit in segment.units:
            if unit.id.startswith(_UNIT):
                found.append(np.arange(first, first + unit.rows))
            first += unit.rows
    return np.setdiff1d(np.concatenate(found), memory.deleted_ids(), assume_unique=True)


def _stored(memory: Memory, keys: Iterable[str]) -> dict[str, int]:
    """Ids of the items alive under these keys."""
    found = memory.find_keys(keys)
    gone = set(np.intersect1d([id for id, _ in found], memory.deleted_ids()).tolist())
    return {key: id for id, key in found if id not in gone}


def _judge(rows: Rows, memory: Memory, stored: Mapping[str, int]) -> tuple[list[int], list[str], list[str]]:
    """Places of the rows that are new, keys that are there already, and keys taken by another pair."""
    new, present, taken = [], [], []
    for place, pair in enumerate(rows.items.select(["key", "caption", "content_sha256"]).to_pylist()):
        if pair["key"] in stored:
            [item] = memory.items([stored[pair["key"]]])
            if (item.caption, item.content_sha256) == (pair["caption"], pair["content_sha256"]):
                present.append(pair["key"])
                continue
            taken.append(pair["key"])
        new.append(place)
    return new, present, taken


def _commit(root: Path, before: Manifest, rows: Rows, replaced: Sequence[int]) -> Manifest:
    keys = rows.items.column("key").to_pylist()
    segments = _segments(root, before, rows)
    deletes: tuple[DeleteRecord, ...] = before.deletes
    if replaced:
        deletes = (*deletes, write_deletes(root, np.array(sorted(replaced), dtype=np.int64)))
    return publish_next(
        root,
        before,
        segments=segments,
        indexes=build_indexes(root, segments, previous=before.indexes, extend=True),
        deletes=deletes,
        removed=write_removed(root, read_removed(root, before).difference(map(key_hash, keys))),
    )


def _segments(root: Path, before: Manifest, rows: Rows) -> tuple[SegmentRecord, ...]:
    """The segments with these rows at their end, in the last one if that was added too and has room."""
    unit = UnitRecord(_UNIT + _fingerprint(rows), rows.items.num_rows)
    last = before.segments[-1]
    own = all(unit.id.startswith(_UNIT) for unit in last.units)
    if not own or last.rows + unit.rows > MAX_SHARED_ROWS:
        return (*before.segments, write_segment(root, [rows], [unit]))
    held = Segment(root, last, base_row=before.base_rows[-1], embed_dim=before.embed_dim)
    earlier = Rows(held.side("image"), held.side("text"), held.table())
    return (*before.segments[:-1], write_segment(root, [earlier, rows], [*last.units, unit]))


def _fingerprint(rows: Rows) -> str:
    """A short name of what was added, for the unit."""
    told = rows.items.select(["key", "caption", "content_sha256"]).to_pylist()
    return hashlib.sha256(repr([tuple(pair.values()) for pair in told]).encode()).hexdigest()[:32]


def _chosen(rows: Rows, places: Sequence[int]) -> Rows:
    return Rows(rows.image[places], rows.text[places], rows.items.take(pa.array(places, type=pa.int64())))
