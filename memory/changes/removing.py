"""Remove: one commit that takes items out of every search; their rows stay until compact or purge. numpy.

The keys' hashes are kept (removed.py): no build brings the items back, and a second removal can say what it found.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.changes.key_patterns import KeyPatterns, told
from memory.changes.near_duplicates import NearDuplicates
from memory.errors import KeyNotFound
from memory.format.deletes import write_deletes
from memory.format.manifest import Manifest
from memory.format.publish import BuildLock, publish_next
from memory.format.removed import key_hash, read_removed, write_removed
from memory.format.versions import read_manifest
from memory.memory import Memory


@dataclass(frozen=True)
class Removal:
    """What a removal did, or would do.

    Attributes:
        version: of the memory now.
        digest: its content digest.
        created: whether the removal made that version; False in a dry run, and where all was removed already.
        keys: of the items removed, in id order.
        already: names of what was removed before.
        similarities: by key, cosine to the nearest embedding given; empty for a removal by key.
        num_items: items that are left.
    """

    version: int
    digest: str
    created: bool
    keys: tuple[str, ...]
    already: tuple[str, ...]
    similarities: Mapping[str, float]
    num_items: int


def remove_keys(root: Path, names: KeyPatterns, *, dry_run: bool = False, stamps: Path | None = None) -> Removal:
    """Take items out by key or pattern.

    Args:
        root: the memory's directory.
        names: what to remove.
        dry_run: find out, and change nothing.
        stamps: as in `Memory.open`.

    Raises:
        KeyNotFound: a name that no item has or had; nothing is changed.
        Locked, WriteFailed, VersionTaken: nothing is changed.
        MemoryStoreError: the memory cannot be opened.
    """
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root), Memory.open(root, stamps=stamps) as memory:
        matched, unmatched = names.match(_candidates(memory, names))
        gone = read_removed(root, memory.manifest)
        unknown = [name for name in unmatched if key_hash(name) not in gone]
        if unknown:
            raise KeyNotFound(
                f"{told(unknown)}: no item of {root} has or had such a key, and nothing was removed. Keys begin with "
                "the corpus's name; a search's neighbours show theirs."
            )
        rows = memory.find_keys(matched)
        alive = ~np.isin([id for id, _ in rows], memory.deleted_ids())
        ids = np.array([id for (id, _), stays in zip(rows, alive, strict=True) if stays], dtype=np.int64)
        keys = tuple(key for (_, key), stays in zip(rows, alive, strict=True) if stays)
        already = (*sorted(matched.difference(keys)), *unmatched)
        return _removal(root, memory.manifest, (ids, keys), already=already, similarities={}, dry_run=dry_run)


def _candidates(memory: Memory, names: KeyPatterns) -> Iterable[str]:
    """Stored keys, all that may be meant among them: a pattern has to be held against every one."""
    if names.literal:
        return (key for _, key in memory.find_keys((*names.patterns, *names.keys)))
    return (key for block in memory.blocks("key") for key in block)


def remove_near(root: Path, near: NearDuplicates, *, dry_run: bool = False, stamps: Path | None = None) -> Removal:
    """Take out the items whose images are nearly those of an evaluation set.

    Args:
        root: the memory's directory.
        near: embeddings of the evaluation images, and from which cosine on an item goes.
        dry_run: find out, and change nothing.
        stamps: as in `Memory.open`.

    Raises:
        QueryShapeError, QueryValueError: the embeddings do not fit this memory.
        Locked, WriteFailed, VersionTaken: nothing is changed.
        MemoryStoreError: the memory cannot be opened.
    """
    read_manifest(root)
    with BuildLock(root), Memory.open(root, stamps=stamps) as memory:
        ids, cosines = near.find(memory)
        keys = tuple(item.key for item in memory.items(ids))
        similarities = dict(zip(keys, cosines.tolist(), strict=True))
        return _removal(root, memory.manifest, (ids, keys), already=(), similarities=similarities, dry_run=dry_run)


def _removal(
    root: Path,
    manifest: Manifest,
    found: tuple[NDArray[np.int64], tuple[str, ...]],
    *,
    already: tuple[str, ...],
    similarities: Mapping[str, float],
    dry_run: bool,
) -> Removal:
    ids, keys = found
    created = bool(len(ids)) and not dry_run
    if created:
        removed = write_removed(root, read_removed(root, manifest).union(map(key_hash, keys)))
        deletes = (*manifest.deletes, write_deletes(root, ids))
        manifest = publish_next(root, manifest, deletes=deletes, removed=removed)
    return Removal(manifest.version, manifest.digest, created, keys, already, similarities, manifest.counts["items"])
