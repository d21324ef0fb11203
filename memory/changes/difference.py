"""Diff: what one version holds that another does not, by key. numpy.

An item is its key; it is changed if its caption or its image's hash is another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory.format.manifest import Manifest
from memory.memory import Memory
from memory.neighbours import MODALITIES


@dataclass(frozen=True)
class Difference:
    """From version `before` to version `after`.

    Attributes:
        before, after: the versions.
        added, removed, changed: keys, ascending.
        kept: items that are the same in both.
        encoder: fields of the encoder's record that differ.
        other: what else differs, as name, before, after.
    """

    before: Manifest
    after: Manifest
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    kept: int
    encoder: tuple[str, ...]
    other: tuple[tuple[str, Any, Any], ...]


def difference(root: Path, before: int, after: int, *, stamps: Path | None = None) -> Difference:
    """Compare two versions of a memory.

    Raises:
        VersionNotFound: no such version.
        MemoryStoreError: one of them cannot be opened.
    """
    with Memory.open(root, version=before, stamps=stamps) as first:
        old, old_manifest = dict(_items(first)), first.manifest
    with Memory.open(root, version=after, stamps=stamps) as second:
        new, manifest = dict(_items(second)), second.manifest
    common = old.keys() & new.keys()
    changed = sorted(key for key in common if old[key] != new[key])
    names = set(old_manifest.encoder) | set(manifest.encoder)
    return Difference(
        before=old_manifest,
        after=manifest,
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(changed),
        kept=len(common) - len(changed),
        encoder=tuple(sorted(n for n in names if old_manifest.encoder.get(n) != manifest.encoder.get(n))),
        other=tuple(_other(old_manifest, manifest)),
    )


def _items(memory: Memory) -> Iterator[tuple[str, int]]:
    """Key and fingerprint of every item that is alive."""
    deleted = set(memory.deleted_ids().tolist())
    columns = zip(memory.blocks("key"), memory.blocks("content_sha256"), memory.blocks("caption"), strict=True)
    rows = (row for blocks in columns for row in zip(*blocks, strict=True))
    for id, (key, content, caption) in enumerate(rows):
        if id not in deleted:
            yield key, hash((content, caption))  # of this process only, and a fraction of the strings' size


def _other(before: Manifest, after: Manifest) -> Iterator[tuple[str, Any, Any]]:
    def facts(manifest: Manifest) -> dict[str, Any]:
        return {
            "segments": len(manifest.segments),
            "rows": manifest.num_rows,
            "deleted rows": manifest.num_rows - manifest.counts["items"],
            "removed keys": manifest.removed.keys if manifest.removed else 0,
            **{f"{modality} index": _index(manifest, modality) for modality in MODALITIES},
            "encoded with": dict(manifest.encoded_with),
            "search defaults": dict(manifest.search_defaults),
            "sources": None if manifest.sources is None else dict(manifest.sources),
            "bytes": sum(file.bytes for file in manifest.files),
        }

    old, new = facts(before), facts(after)
    return ((name, old[name], new[name]) for name in new if old[name] != new[name])


def _index(manifest: Manifest, modality: Any) -> str:
    index = manifest.indexes[modality]
    return f"{index.kind}, {len(index.shards)} shards, {index.id[:12]}"
