"""Reindex: the same rows under new indices, as a new version. Nothing is encoded; FAISS through indexing/."""

from dataclasses import dataclass
from pathlib import Path

from memory.changes.compaction import index_anew
from memory.format.manifest import Manifest
from memory.format.publish import BuildLock, publish_next
from memory.format.versions import read_manifest
from memory.indexing.options import IndexOptions
from memory.memory import Memory


@dataclass(frozen=True)
class Reindexing:
    """What a reindexing did.

    Attributes:
        before, after: the versions.
        created: False if the new indices came out as the old ones.
    """

    before: Manifest
    after: Manifest
    created: bool


def reindex(root: Path, options: IndexOptions | None = None, *, stamps: Path | None = None) -> Reindexing:
    """Choose, train and measure the indices of a memory anew; needs room for them beside the old ones until `gc`.

    Args:
        root: the memory's directory.
        options: what is wanted from now on; None wants what was wanted before.
        stamps: as in `Memory.open`.

    Raises:
        IndexOptionsInvalid: no index can be what is wanted; nothing is changed.
        Locked, WriteFailed, VersionTaken: nothing is changed.
        MemoryStoreError: the memory cannot be opened.
    """
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root):
        with Memory.open(root, stamps=stamps) as memory:
            before = memory.manifest
        indexes = index_anew(root, before, before.segments, options)
        created = indexes != before.indexes
        after = publish_next(root, before, indexes=indexes) if created else before
    return Reindexing(before, after, created)
