"""The files of one version, mapped: segments, and of each modality what searches it. For files that were checked.

numpy; FAISS through indexing/. Shapes: N rows of the memory, D embedding dimension.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.format.deletes import read_deletes
from memory.format.families import Family, parse_factory
from memory.format.manifest import IndexRecord, Manifest, index_directory, shard_name
from memory.format.segments import Segment
from memory.indexing.faiss_files import NUM_PROBES, check_rows, open_shard, open_trained
from memory.indexing.list_search import AliveRows, ListSearch, ListShard
from memory.indexing.reports import read_report
from memory.neighbours import MODALITIES, Modality
from memory.searching.exact_search import ExactSearch, ShardSearch
from memory.searching.ranking import Ranked
from memory.searching.stored_rows import StoredRows


class Searcher(Protocol):
    """The search of one modality."""

    def search(
        self, queries: NDArray[np.float32], k: int, *, nprobe: int | None = None, num_candidates: int | None = None
    ) -> Ranked:
        """The k nearest items of (B, D) queries: global ids and similarities, (B, k), missing ones last."""
        ...


class Opened(NamedTuple):
    """A version's files in one reference, so that a search under way keeps what it began with.

    Attributes:
        segments: in id order.
        bases: (segments,), first id of each.
        searchers: by modality.
        reports: report.json of each index.
        deleted: ids, ascending.
    """

    segments: tuple[Segment, ...]
    bases: NDArray[np.int64]
    searchers: Mapping[Modality, Searcher]
    reports: Mapping[Modality, Mapping[str, Any]]
    deleted: NDArray[np.int64]


def open_version(root: Path, manifest: Manifest) -> Opened:
    """Map every file of a version, and probe that indices and rows belong together.

    Raises:
        SegmentInvalid, ShardInvalid: a file is not what the manifest says.
    """
    deleted = read_deletes(root, manifest.deletes, num_rows=manifest.num_rows)
    segments = tuple(
        Segment(root, record, base_row=base_row, embed_dim=manifest.embed_dim)
        for record, base_row in zip(manifest.segments, manifest.base_rows, strict=True)
    )
    searchers = {modality: open_index(root, manifest, modality, segments, deleted) for modality in MODALITIES}
    reports = {modality: read_report(root, manifest.indexes[modality]) for modality in MODALITIES}
    return Opened(segments, np.asarray(manifest.base_rows, dtype=np.int64), searchers, reports, deleted)


def open_index(
    root: Path,
    manifest: Manifest,
    modality: Modality,
    segments: Sequence[Segment],
    deleted: NDArray[np.int64],
    probes: int | None = NUM_PROBES,
) -> Searcher:
    """Map the index of one modality and compare rows of it with the segments.

    Args:
        root: the memory's directory.
        manifest: of the version.
        modality: which index.
        segments: opened.
        deleted: ids that no search may return, ascending.
        probes: rows of each shard to compare; None compares all.

    Raises:
        ShardInvalid: not of the family, size or metric that the manifest says, or other rows.
    """
    record = manifest.indexes[modality]
    family = family_of(record, manifest)
    directory = root / index_directory(record.id)
    trained = open_trained(directory / "trained.faiss", family)
    shards = []
    for position, segment in enumerate(segments):
        path = directory / shard_name(position)
        shard = open_shard(path, family, trained, rows=segment.rows)
        check_rows(path, shard, trained, segment.side(modality), probes=probes)
        shards.append((shard, segment, _rows_within(deleted, segment)))
    if record.search is None:
        return ExactSearch(
            tuple(
                ShardSearch(shard, segment.side(modality), base_row=segment.base_row, deleted=gone)
                for shard, segment, gone in shards
            )
        )
    return ListSearch(
        trained,
        [
            ListShard(shard, segment.base_row, AliveRows(segment.rows, gone) if gone.size else None)
            for shard, segment, gone in shards
        ],
        StoredRows([segment.side(modality) for segment in segments]),
        num_items=manifest.counts["items"],
        parameters=record.search,
    )


def family_of(record: IndexRecord, manifest: Manifest) -> Family:
    """What an index of a version is."""
    family = parse_factory(record.factory, rows=manifest.num_rows, embed_dim=manifest.embed_dim)
    assert family is not None, "the manifest's parser refuses a factory that is none"
    return family


def _rows_within(ids: NDArray[np.int64], segment: Segment) -> NDArray[np.int64]:
    first, last = np.searchsorted(ids, (segment.base_row, segment.base_row + segment.rows))
    return ids[first:last] - segment.base_row
