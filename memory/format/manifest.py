"""What one version of a memory is: frozen records, their one JSON form, and its digest.

Imports of ours: families, neighbours, strict_json. The strict way back from JSON is manifest_parser. No file
is opened here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

from memory.format.families import EXACT
from memory.format.strict_json import canonical_bytes
from memory.neighbours import Modality

FORMAT: Final = 1
METRIC: Final = "inner_product"
SEGMENT_FILES: Final = ("image.f16.npy", "items.arrow", "segment.json", "text.f16.npy")
INDEX_FILES: Final = ("report.json", "shard.json", "trained.faiss")


@dataclass(frozen=True)
class FileRecord:
    """One file of a version: path relative to the memory, size, SHA-256 (hex)."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class UnitRecord:
    """A range of a source that was encoded as one piece, and the rows it gave."""

    id: str
    rows: int


@dataclass(frozen=True)
class SegmentRecord:
    """Immutable rows. The id is a content hash: equal rows and units give an equal id."""

    id: str
    rows: int
    units: tuple[UnitRecord, ...]
    files: tuple[FileRecord, ...]


@dataclass(frozen=True)
class ShardRecord:
    """One FAISS file, over the rows of one segment."""

    segment: str
    rows: int


@dataclass(frozen=True)
class SearchParameters:
    """How an index of lists is searched where a search says nothing else.

    Attributes:
        nprobe: lists looked at, at most if there is a margin.
        num_candidates: rows ranked by their exact similarity, for 10 neighbours.
        margin: lists are left out whose centroids are less similar to the query, by more than this, than the nearest
            four are on average; None looks at `nprobe` lists for every query.
    """

    nprobe: int
    num_candidates: int
    margin: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class IndexRecord:
    """One generation of the index of one modality: a shard for each segment, in segment order.

    Attributes:
        id: content hash.
        kind: of families.KINDS.
        shards: one for each segment.
        files: all of them.
        factory: FAISS's words for it; `exact` for the exact one.
        search: None for the exact index.
    """

    id: str
    kind: str
    shards: tuple[ShardRecord, ...]
    files: tuple[FileRecord, ...]
    factory: str = EXACT
    search: SearchParameters | None = None


@dataclass(frozen=True)
class DeleteRecord:
    """Row ids taken out in one commit."""

    id: str
    rows: int
    files: tuple[FileRecord, ...]


@dataclass(frozen=True)
class RemovedRecord:
    """The keys that were taken out, as hashes: they outlive the rows, so that no build brings an item back."""

    id: str
    keys: int
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All a version says, except its number.

    Attributes:
        encoder: the encoder's record (architecture, weights_sha256, preprocessing, tokenizer, embed_dim,
            probes).
        encoded_with: device and dtype of the build; not compared on open.
        segments: in id order; a segment's base row is the sum of the rows before it.
        indexes: one for each modality.
        deletes: row ids that searches leave out.
        removed: hashes of the keys that were taken out, or None if none ever was.
        search_defaults: parameters of a search that names none; at least `k`.
        sources: free-form summary of what was read, or None.
        parent: the version this one was made from; None for the first. Publishing fails if another came
            between.
    """

    encoder: Mapping[str, Any]
    encoded_with: Mapping[str, Any]
    segments: tuple[SegmentRecord, ...]
    indexes: Mapping[Modality, IndexRecord]
    deletes: tuple[DeleteRecord, ...] = ()
    removed: RemovedRecord | None = None
    search_defaults: Mapping[str, Any] = field(default_factory=lambda: {"k": 10})
    sources: Mapping[str, Any] | None = None
    parent: int | None = None

    @property
    def base_rows(self) -> tuple[int, ...]:
        """First global id of each segment."""
        return tuple(accumulate((segment.rows for segment in self.segments), initial=0))[:-1]

    @property
    def num_rows(self) -> int:
        """Global ids run from 0 to this number; deleted rows keep theirs."""
        return sum(segment.rows for segment in self.segments)

    @property
    def counts(self) -> dict[str, int]:
        """Items that can be found, rows stored, and segments."""
        removed = sum(record.rows for record in self.deletes)
        return {"items": self.num_rows - removed, "rows": self.num_rows, "segments": len(self.segments)}

    @property
    def embed_dim(self) -> int:
        return int(self.encoder["embed_dim"])

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file of the version, ordered by path."""
        owners: list[SegmentRecord | IndexRecord | DeleteRecord | RemovedRecord]
        owners = [*self.segments, *self.indexes.values(), *self.deletes]
        owners += [self.removed] if self.removed else []
        return tuple(sorted((file for owner in owners for file in owner.files), key=lambda file: file.path))


@dataclass(frozen=True, kw_only=True)
class Manifest(Contents):
    """One committed version."""

    version: int

    @cached_property
    def digest(self) -> str:
        """`content_digest` of this manifest."""
        return content_digest(self)


def content_digest(contents: Contents) -> str:
    """SHA-256 (hex) over what a version holds, without version and parent: equal contents, equal digest.

    What a person calls the encoder is left out: `encoder` says which it is, and a renamed folder holds the same model.
    """
    fields = _content_fields(contents)
    encoded_with = {name: value for name, value in contents.encoded_with.items() if name != "model"}
    return hashlib.sha256(canonical_bytes({**fields, "encoded_with": encoded_with})).hexdigest()


def serialise(manifest: Manifest) -> bytes:
    """The bytes of a manifest file: canonical JSON that carries the SHA-256 of the rest of itself."""
    body = {**_content_fields(manifest), "version": manifest.version, "parent": manifest.parent}
    return canonical_bytes({**body, "self_sha256": self_sha256(body)})


def segment_directory(segment_id: str) -> str:
    """Path of a segment, relative to the memory."""
    return f"segments/{segment_id}"


def index_directory(index_id: str) -> str:
    """Path of an index generation, relative to the memory."""
    return f"indexes/{index_id}"


def shard_name(position: int) -> str:
    """File name of the FAISS file of the `position`-th segment."""
    return f"shard-{position:05d}.faiss"


def deletes_path(deletes_id: str) -> str:
    """Path of a delete list, relative to the memory."""
    return f"deletes/{deletes_id}.npy"


def removed_path(removed_id: str) -> str:
    """Path of a list of removed keys, relative to the memory."""
    return f"removed/{removed_id}.npy"


def content_id(data: bytes) -> str:
    """Name of an immutable thing: the first 128 bits of the SHA-256 of the file that describes it."""
    return hashlib.sha256(data).hexdigest()[:32]


def self_sha256(body: Mapping[str, Any]) -> str:
    """Hash a manifest carries of the rest of itself."""
    return hashlib.sha256(canonical_bytes(body)).hexdigest()


def _content_fields(contents: Contents) -> dict[str, Any]:
    removed = contents.removed
    return {
        "format": FORMAT,
        "metric": METRIC,
        "encoder": contents.encoder,
        "encoded_with": contents.encoded_with,
        "segments": [
            {
                "id": segment.id,
                "base_row": base_row,
                "rows": segment.rows,
                "units": [{"id": unit.id, "rows": unit.rows} for unit in segment.units],
            }
            for segment, base_row in zip(contents.segments, contents.base_rows, strict=True)
        ],
        "indexes": {
            modality: {
                "id": index.id,
                "kind": index.kind,
                "shards": [{"segment": shard.segment, "rows": shard.rows} for shard in index.shards],
                # an exact index says no more than that
                **({"factory": index.factory, "search": index.search.to_json()} if index.search else {}),
            }
            for modality, index in contents.indexes.items()
        },
        "deletes": [{"id": record.id, "rows": record.rows} for record in contents.deletes],
        # left out where there is none: the digest of a memory nothing was taken from says nothing of removals
        **({"removed": {"id": removed.id, "keys": removed.keys}} if removed else {}),
        "counts": contents.counts,
        "search_defaults": contents.search_defaults,
        "sources": contents.sources,
        "files": {file.path: {"bytes": file.bytes, "sha256": file.sha256} for file in contents.files},
    }
