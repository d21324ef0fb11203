"""The files of one version, mapped: segments, and of each modality what searches it. For files that were checked.

numpy; FAISS through indexing/. Shapes: N rows of the memory, D embedding dimension.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import GpuSearchUnavailable
from memory.format.deletes import read_deletes
from memory.format.families import Family, parse_factory
from memory.format.manifest import IndexRecord, Manifest, index_directory, shard_name
from memory.format.segments import Segment
from memory.indexing.faiss_files import NUM_PROBES, check_rows, open_shard, open_trained
from memory.indexing.gpu.placing import ON_CPU, Gpu, Placed, place
from memory.indexing.gpu.searcher import search_on_gpu
from memory.indexing.reports import read_report
from memory.indexing.searcher import Part, Searcher, search_on_cpu
from memory.neighbours import MODALITIES, Modality

logger = logging.getLogger("reco.memory")


class Opened(NamedTuple):
    """A version's files in one reference, so that a search under way keeps what it began with.

    Attributes:
        segments: in id order.
        bases: (segments,), first id of each.
        searchers: by modality.
        reports: report.json of each index.
        deleted: ids, ascending.
        placed: where `searchers` search.
    """

    segments: tuple[Segment, ...]
    bases: NDArray[np.int64]
    searchers: Mapping[Modality, Searcher]
    reports: Mapping[Modality, Mapping[str, Any]]
    deleted: NDArray[np.int64]
    placed: Placed


def open_version(root: Path, manifest: Manifest, gpu: Gpu | None = None) -> Opened:
    """Map every file of a version, and probe that indices and rows belong together.

    Args:
        root: the memory's directory.
        manifest: of the version.
        gpu: to search on, if it can be.

    Raises:
        SegmentInvalid, ShardInvalid: a file is not what the manifest says.
        GpuSearchUnavailable: the GPU is required, and cannot search this memory.
    """
    deleted = read_deletes(root, manifest.deletes, num_rows=manifest.num_rows)
    segments = tuple(
        Segment(root, record, base_row=base_row, embed_dim=manifest.embed_dim)
        for record, base_row in zip(manifest.segments, manifest.base_rows, strict=True)
    )
    placed, searchers = _open_searchers(root, manifest, segments, deleted, gpu)
    reports = {modality: read_report(root, manifest.indexes[modality]) for modality in MODALITIES}
    return Opened(segments, np.asarray(manifest.base_rows, dtype=np.int64), searchers, reports, deleted, placed)


def open_index(
    root: Path,
    manifest: Manifest,
    modality: Modality,
    segments: Sequence[Segment],
    deleted: NDArray[np.int64],
    probes: int | None = NUM_PROBES,
    placed: Placed = ON_CPU,
) -> Searcher:
    """Map the index of one modality and compare rows of it with the segments.

    Args:
        root: the memory's directory.
        manifest: of the version.
        modality: which index.
        segments: opened.
        deleted: ids that no search may return, ascending.
        probes: rows of each shard to compare; None compares all.
        placed: where it is to be searched.

    Raises:
        ShardInvalid: not of the family, size or metric that the manifest says, or other rows.
    """
    record = manifest.indexes[modality]
    family = family_of(record, manifest)
    directory = root / index_directory(record.id)
    trained = open_trained(directory / "trained.faiss", family)
    parts = []
    for position, segment in enumerate(segments):
        path, rows = directory / shard_name(position), segment.side(modality)
        shard = open_shard(path, family, trained, rows=segment.rows)
        check_rows(path, shard, trained, rows, probes=probes)
        parts.append(Part(shard, rows, segment.base_row, _rows_within(deleted, segment)))
    searcher = search_on_cpu(trained, parts, num_items=manifest.counts["items"], parameters=record.search)
    return searcher if placed.gpu is None else search_on_gpu(searcher, trained, parts, placed)


def family_of(record: IndexRecord, manifest: Manifest) -> Family:
    """What an index of a version is."""
    family = parse_factory(record.factory, rows=manifest.num_rows, embed_dim=manifest.embed_dim)
    assert family is not None, "the manifest's parser refuses a factory that is none"
    return family


def _open_searchers(
    root: Path, manifest: Manifest, segments: Sequence[Segment], deleted: NDArray[np.int64], gpu: Gpu | None
) -> tuple[Placed, dict[Modality, Searcher]]:
    placed, reason = place(family_of(manifest.indexes["image"], manifest), manifest.num_rows, gpu)
    try:
        searchers = {one: open_index(root, manifest, one, segments, deleted, placed=placed) for one in MODALITIES}
    except GpuSearchUnavailable as error:  # less room than there was to be
        if gpu is None or gpu.required:
            raise
        logger.warning("%s", error)
        return _open_searchers(root, manifest, segments, deleted, None)
    if gpu is not None:
        told = f"on {placed.device}, by {placed.scans}" if reason is None else f"on the CPU: {reason}"
        logger.info("version %d is searched %s", manifest.version, told)
    return placed, searchers


def _rows_within(ids: NDArray[np.int64], segment: Segment) -> NDArray[np.int64]:
    first, last = np.searchsorted(ids, (segment.base_row, segment.base_row + segment.rows))
    return ids[first:last] - segment.base_row
