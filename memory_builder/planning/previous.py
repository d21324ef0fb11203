"""The version that a build grows, and what of it is alive as the build begins. Imports memory and known_keys.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory import Manifest, Memory, latest_version, read_removed
from memory_builder.known_keys import StoredPair


@dataclass(frozen=True)
class Previous:
    """What a memory held before the build; empty where there was none.

    Attributes:
        manifest: of the version that grows.
        pairs: of the items that are alive, by key.
        ids: of the same items, by key.
        deleted: ids of the rows that are dead.
        removed: hashes (memory.key_hash) of the keys that were taken out.
    """

    manifest: Manifest | None = None
    pairs: Mapping[str, StoredPair] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    deleted: frozenset[int] = frozenset()
    removed: frozenset[bytes] = frozenset()

    @classmethod
    def open(cls, root: Path, encoder: Mapping[str, Any], stamps: Path | None) -> "Previous":
        """Read the newest version, checked file by file against the encoder.

        Raises:
            memory.MemoryStoreError: encoder_mismatch, or a damaged memory.
        """
        if latest_version(root) is None:
            return cls()
        with Memory.open(root, encoder=encoder, stamps=stamps) as memory:
            deleted = frozenset(memory.deleted_ids().tolist())
            pairs = map(StoredPair, memory.content_hashes(), memory.captions())
            rows = enumerate(zip(memory.keys(), pairs, strict=True))
            alive = [(id, key, pair) for id, (key, pair) in rows if id not in deleted]
            return cls(
                manifest=memory.manifest,
                pairs={key: pair for _, key, pair in alive},
                ids={key: id for id, key, _ in alive},
                deleted=deleted,
                removed=read_removed(root, memory.manifest),
            )


def published_units(manifest: Manifest | None) -> frozenset[str]:
    """Ids of the units that a version holds."""
    return frozenset(unit.id for segment in (manifest.segments if manifest else ()) for unit in segment.units)
