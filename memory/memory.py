"""The memory, opened: an immutable view of one version that is searched from any number of threads.

Imports of ours: this room only. Shapes: B queries, K neighbours, D embedding dimension, N rows of the memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.errors import MemoryClosed, MemoryFileError, QueryShapeError, VersionNotFound
from memory.format.encoder_record import check_encoder, encoder_name
from memory.format.manifest import METRIC, Manifest
from memory.format.rows import storable
from memory.format.segments import Segment
from memory.format.stamps import Stamps
from memory.format.versions import latest_version, read_manifest
from memory.indexing.gpu.placing import Gpu
from memory.indexing.reports import has_drifted, outgrown, told_recall
from memory.neighbours import MODALITIES, OTHER_MODALITY, Modality, Neighbours
from memory.opened import Opened, open_version
from memory.searchable import Item, check_ids, check_queries
from memory.searching.ranking import MISSING
from memory.verify import check_files


class Memory:
    """One version of a memory, memory-mapped and read-only. Make one with `Memory.open`.

    Attributes:
        path: the memory's directory.
        manifest: what this version is.
    """

    def __init__(self, path: Path, manifest: Manifest, opened: Opened) -> None:
        self.path = path
        self.manifest = manifest
        self._opened: Opened | None = opened

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        version: int | None = None,
        encoder: Mapping[str, Any] | None = None,
        verify: bool = False,
        stamps: Path | None = None,
        gpu: Gpu | None = None,
    ) -> "Memory":
        """Open the highest version, or the one named, after checking every file of it.

        Args:
            path: the memory's directory.
            version: an older version, deliberately.
            encoder: record of the encoder that will make the queries; refused if the memory was built with
                another.
            verify: hash every file even where a stamp says it was done.
            stamps: directory for stamps (`default_stamp_directory`), by which a later open on this host
                skips the hashing; None hashes everything and leaves nothing behind.
            gpu: where to search if it can be done there (docs/gpu.md); None is the CPU.

        Raises:
            MemoryNotFound, VersionNotFound, ManifestInvalid, EncoderMismatch: there is nothing fit to open.
            MemoryFileError: a file is missing, or is not what was committed.
            GpuSearchUnavailable: the GPU is required, and cannot search this memory.
        """
        root = Path(path)
        while True:
            newest = latest_version(root)
            try:
                manifest = read_manifest(root, version)
                if encoder is not None:
                    check_encoder(manifest.encoder, encoder, encoder_name(manifest.encoder, manifest.encoded_with))
                check_files(root, manifest.files, stamps=Stamps(stamps, root) if stamps else None, force=verify)
                return cls(root, manifest, open_version(root, manifest, gpu))
            except (MemoryFileError, VersionNotFound):
                # Committed over and collected while it was opened: the newer version is asked for anyway.
                if version is not None or latest_version(root) == newest:
                    raise

    @property
    def encoder(self) -> Mapping[str, Any]:
        """Record of the encoder that made the embeddings."""
        return self.manifest.encoder

    @property
    def encoded_with(self) -> Mapping[str, Any]:
        """What the encoder ran on, and what a person calls it (`encoder_name`)."""
        return self.manifest.encoded_with

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def digest(self) -> str:
        """Content digest: equal contents have an equal digest, whatever their version."""
        return self.manifest.digest

    @property
    def embed_dim(self) -> int:
        return self.manifest.embed_dim

    @property
    def num_rows(self) -> int:
        """Ids run from 0 to this number, deleted ones included."""
        return self.manifest.num_rows

    @property
    def num_items(self) -> int:
        """Items a search can return."""
        return self.manifest.counts["items"]

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        modality: Modality,
        nprobe: int | None = None,
        num_candidates: int | None = None,
    ) -> Neighbours:
        """Find the k nearest memory items for each query, within one modality.

        An exact index finds them all; one of lists misses some, as often as its report says. Similarities and order are
        exact either way.

        Args:
            queries: (B, D) float32, unit norm, of `modality`.
            k: neighbours per query; fewer come back as id -1 with mask False.
            nprobe: lists to look at in an index of lists; None looks at as many as its recall was measured with.
            num_candidates: rows to rank by similarity for 10 neighbours, and in proportion for more; None likewise.

        Returns:
            Neighbours by similarity descending, then id ascending; `values` are of the other modality.

        Raises:
            QueryShapeError: if D differs from the memory's dimension, k or a parameter is out of range or the modality
                unknown.
            QueryValueError: if a query is not finite or not unit norm.
        """
        opened = self._use()
        checked = check_queries(queries, k, modality, embed_dim=self.embed_dim)
        for name, value in (("nprobe", nprobe), ("num_candidates", num_candidates)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
                raise QueryShapeError(f"{name} must be an integer of at least 1, not {value!r}")
        ids, similarities = opened.searchers[modality].search(
            checked, int(k), nprobe=nprobe, num_candidates=num_candidates
        )
        mask = ids != MISSING
        keys = np.zeros((*ids.shape, self.embed_dim), dtype=np.float32)
        values = np.zeros_like(keys)
        keys[mask] = _gather(opened, modality, ids[mask], self.embed_dim)
        values[mask] = _gather(opened, OTHER_MODALITY[modality], ids[mask], self.embed_dim)
        return Neighbours(ids, np.where(mask, similarities, np.float32(0.0)), values, keys, mask)

    def items(self, ids: Sequence[int] | NDArray[np.int64]) -> list[Item]:
        """Look up items by id, in the order given; one look-up per segment touched.

        Raises:
            ItemNotFound: an id outside the memory, -1 included.
        """
        opened, wanted = self._use(), check_ids(ids, num_rows=self.num_rows)
        found: list[Item | None] = [None] * len(wanted)
        for segment, positions in _by_segment(opened, wanted):
            columns = segment.take(wanted[positions] - segment.base_row).to_pylist()
            for position, columns_of_item in zip(positions.tolist(), columns, strict=True):
                found[position] = Item(id=int(wanted[position]), **columns_of_item)
        return [item for item in found if item is not None]

    def rows(self, modality: Modality, ids: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Embeddings of some ids, or of all `num_rows` in id order (deleted ones included).

        Returns:
            (N, D) float32, unit norm (normalised again after fp16), C-contiguous.

        Raises:
            ItemNotFound: an id outside the memory.
        """
        if modality not in MODALITIES:
            raise QueryShapeError(f"modality {modality!r} is neither 'image' nor 'text'")
        wanted = np.arange(self.num_rows) if ids is None else check_ids(ids, num_rows=self.num_rows)
        return _gather(self._use(), modality, wanted, self.embed_dim)

    def keys(self) -> list[str]:
        """Keys of all rows, in id order."""
        return self._column("key")

    def captions(self, ids: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """Captions of some ids, in the order given, or of all rows in id order.

        Raises:
            ItemNotFound: an id outside the memory.
        """
        if ids is None:
            return self._column("caption")
        opened, wanted = self._use(), check_ids(ids, num_rows=self.num_rows)
        found = np.empty(len(wanted), dtype=object)
        for segment, positions in _by_segment(opened, wanted):
            taken = segment.take(wanted[positions] - segment.base_row, ("caption",))
            found[positions] = taken.column("caption").to_pylist()
        captions: list[str] = found.tolist()
        return captions

    def content_hashes(self) -> list[str]:
        """Content SHA-256 (hex) of all rows, in id order."""
        return self._column("content_sha256")

    def blocks(self, column: str) -> Iterator[list[str]]:
        """A column of text of all rows, in id order, a block at a time: for memories whose column outgrows the RAM."""
        return (block for segment in self._use().segments for block in segment.blocks(column))

    def find_keys(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        """Id and key of every row that is stored under one of some keys, in id order, deleted ones included."""
        named = storable(keys)
        if not named:
            return []
        values = pa.array(named, type=pa.string())
        found: list[tuple[int, str]] = []
        for segment in self._use().segments:
            rows = segment.find("key", values)
            stored = segment.take(rows).column("key").to_pylist() if len(rows) else []
            found += zip((rows + segment.base_row).tolist(), stored, strict=True)
        return found

    def deleted_ids(self) -> NDArray[np.int64]:
        """Ids no search returns, ascending."""
        return self._use().deleted.copy()

    def indices(self) -> list[dict[str, Any]]:
        """What is told of each index: how it is searched, and the recall that was measured.

        `device` searches it, and compares all `rows` or those of the nearest `lists` (`scans`); a GPU that scans rows
        misses nothing, whatever the index. `search` and `recall` are None for an exact index, which misses nothing.
        `drifted` (rows added since lie far from the lists) and `outgrown` (the memory is larger than it is made for)
        ask for `reco build --reindex`.
        """
        opened = self._use()
        reports = opened.reports
        return [
            {
                "modality": modality,
                "id": index.id,
                "kind": index.kind,
                "factory": index.factory,
                "device": opened.placed.device,
                "scans": opened.placed.scans,
                "num_shards": len(index.shards),
                "bytes": sum(file.bytes for file in index.files),
                "search": None if index.search is None else index.search.to_json(),
                "recall": told_recall(reports[modality]),
                "drifted": has_drifted(reports[modality]),
                "outgrown": outgrown(reports[modality], self.num_rows, self.embed_dim),
            }
            for modality, index in sorted(self.manifest.indexes.items())
        ]

    def segments(self) -> list[dict[str, Any]]:
        """`id` and `rows` of each segment."""
        return [{"id": segment.id, "rows": segment.rows} for segment in self.manifest.segments]

    def describe(self) -> dict[str, Any]:
        """What `GET /memory` and `reco memory info` tell: a plain JSON object, without paths or probes."""
        manifest = self.manifest
        return {
            "version": manifest.version,
            "digest": manifest.digest,
            **manifest.counts,
            "embed_dim": manifest.embed_dim,
            "metric": METRIC,
            "indices": self.indices(),
            "encoder": {name: value for name, value in manifest.encoder.items() if name != "probes"},
            "encoded_with": dict(manifest.encoded_with),
            "search_defaults": dict(manifest.search_defaults),
            "sources": None if manifest.sources is None else dict(manifest.sources),
            "bytes": sum(file.bytes for file in manifest.files),
        }

    def index_report(self, modality: Modality) -> Mapping[str, Any]:
        """The whole report.json of one index."""
        return self._use().reports[modality]

    def close(self) -> None:
        """Let go of the files. Searches under way finish; later ones raise `MemoryClosed`."""
        self._opened = None

    def __enter__(self) -> "Memory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _use(self) -> Opened:
        opened = self._opened  # one read: another thread may close in between
        if opened is None:
            raise MemoryClosed("this memory was closed; open it again")
        return opened

    def _column(self, name: str) -> list[str]:
        return [value for segment in self._use().segments for value in segment.column(name)]


def _by_segment(opened: Opened, ids: NDArray[np.int64]) -> list[tuple[Segment, NDArray[np.int64]]]:
    """Group ids by the segment that holds them: the segment, and positions in `ids`."""
    owners = np.searchsorted(opened.bases, ids, side="right") - 1
    return [(opened.segments[owner], np.flatnonzero(owners == owner)) for owner in np.unique(owners)]


def _gather(opened: Opened, modality: Modality, ids: NDArray[np.int64], embed_dim: int) -> NDArray[np.float32]:
    """Rows of `ids` (n,) as (n, D) float32 of unit norm."""
    rows = np.empty((len(ids), embed_dim), dtype=np.float32)
    for segment, positions in _by_segment(opened, ids):
        rows[positions] = segment.side(modality)[ids[positions] - segment.base_row]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # never zero: writing refused rows far from unit norm
    return rows
