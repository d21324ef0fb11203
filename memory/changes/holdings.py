"""The rows of every version of a memory at once, by segment: who holds a key. numpy and pyarrow."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.errors import ManifestInvalid, SegmentInvalid
from memory.format.manifest import Manifest
from memory.format.segments import Segment
from memory.format.versions import list_versions, read_manifest
from memory.neighbours import MODALITIES


class Holdings:
    """The rows of every version that can be read, by segment."""

    def __init__(self, root: Path, versions: Mapping[int, Manifest | None]) -> None:
        self._segments: dict[str, Segment] = {}
        self._unreadable: set[str] = set()
        records = {s.id: (s, m.embed_dim) for m in versions.values() if m for s in m.segments}
        for name, (record, embed_dim) in records.items():
            try:
                self._segments[name] = Segment(root, record, base_row=0, embed_dim=embed_dim)
            except SegmentInvalid:
                self._unreadable.add(name)  # nobody can tell what is in it: its versions go

    def keys(self) -> Iterator[str]:
        """Keys of all rows, deleted ones too."""
        return (key for segment in self._segments.values() for block in segment.blocks("key") for key in block)

    def find(self, keys: frozenset[str]) -> tuple[set[str], dict[str, NDArray[np.int64]]]:
        """Segments that hold one of the keys or cannot be read, and the rows of those that can."""
        rows = {}
        for name, segment in self._segments.items():
            found = [row for row, key in enumerate(segment.column("key")) if key in keys]
            if found:
                rows[name] = np.array(found, dtype=np.int64)
        return self._unreadable.union(rows), rows

    def needles(self, rows: Mapping[str, NDArray[np.int64]]) -> Iterator[bytes]:
        """What a copy of these rows would hold: captions, hashes, thumbnails, embeddings."""
        for name, found in rows.items():
            segment = self._segments[name]
            for item in segment.take(found).to_pylist():
                yield item["caption"].encode()
                yield item["content_sha256"].encode()
                yield item["thumbnail"] or b""
            for modality in MODALITIES:
                yield from (segment.side(modality)[row].tobytes() for row in found.tolist())


def readable_versions(root: Path) -> dict[int, Manifest | None]:
    """Every version's manifest; None where it is damaged."""
    manifests: dict[int, Manifest | None] = {}
    for version in list_versions(root):
        try:
            manifests[version] = read_manifest(root, version)
        except ManifestInvalid:
            manifests[version] = None
    return manifests
