"""One generation of the index of a modality: chosen, trained, written, measured, and named by what it holds.

    indexes/<id>/ trained.faiss  shard-00000.faiss …  shard.json  report.json      id = hash of shard.json

A generation goes on from the one before where it can: segments that were indexed keep their shards, new ones get theirs
from the same trained lists. It is trained anew when the memory has outgrown it, or when other options are given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import RowsInvalid
from memory.format.durable import Written, commit_directory, staging_directory, write_bytes
from memory.format.families import Family, parse_factory
from memory.format.manifest import (
    FORMAT,
    METRIC,
    FileRecord,
    IndexRecord,
    SearchParameters,
    SegmentRecord,
    ShardRecord,
    content_id,
    index_directory,
    segment_directory,
    shard_name,
)
from memory.format.segments import EMBEDDING_FILES, check_existing, open_embeddings
from memory.format.strict_json import canonical_bytes
from memory.indexing.faiss_files import Trained, open_trained, take_apart, write_faiss
from memory.indexing.kernels import faiss
from memory.indexing.options import IndexOptions, choose_family
from memory.indexing.reports import (
    exact_report,
    list_report,
    outgrown,
    read_report,
    training_report,
    wanted_options,
)
from memory.indexing.shards import ShardWriter, link_shard
from memory.indexing.timing import keep_times
from memory.indexing.training import Split, mean_similarity, split_rows, train
from memory.indexing.trial import Trial, try_out
from memory.neighbours import MODALITIES, OTHER_MODALITY, Modality
from memory.searching.stored_rows import StoredRows

_DRIFT_ROWS: Final = 1024  # of a segment, to see how near its rows lie to their centroids
_TRAINED: Final = "trained.faiss"

Sides = list[NDArray[np.float16]]  # rows of each segment, (N, D)


class _Before(NamedTuple):
    """The generation that a new one goes on from: its record and what its report says."""

    record: IndexRecord
    report: Mapping[str, Any]


def build_indexes(
    root: Path,
    segments: Sequence[SegmentRecord],
    *,
    options: IndexOptions | None = None,
    previous: Mapping[Modality, IndexRecord] | None = None,
    extend: bool = False,
    check: Callable[[], object] = lambda: None,
) -> dict[Modality, IndexRecord]:
    """A new index generation for each modality; as `build_index`.

    Args:
        root, segments, options: as `build_index`.
        previous: the indices of the version before.
        extend: as `build_index`.
        check: called before each modality; what it raises ends the work.
    """
    indexes: dict[Modality, IndexRecord] = {}
    for modality in MODALITIES:
        check()
        before = previous[modality] if previous else None
        indexes[modality] = build_index(root, segments, modality, options=options, previous=before, extend=extend)
    return indexes


def build_index(
    root: Path,
    segments: Sequence[SegmentRecord],
    modality: Modality,
    *,
    options: IndexOptions | None = None,
    previous: IndexRecord | None = None,
    extend: bool = False,
) -> IndexRecord:
    """Build one generation of the index of a modality, a shard for each segment.

    FAISS holds one shard at a time in memory, so a segment should not be larger than that allows. Building the same
    segments again gives the same record and keeps the directory that is there.

    Args:
        root: the memory's directory.
        segments: of the version, in id order.
        modality: which side.
        options: what is wanted; None wants what `previous` was, or else the defaults.
        previous: the generation to go on from, whose files were checked; None trains anew.
        extend: go on from it however large the memory has become: nothing is trained, and reports.outgrown says so.

    Raises:
        IndexOptionsInvalid: no index can be what is wanted; nothing is written.
        RowsInvalid: no segments, or segments of different D.
        SegmentInvalid, ShardInvalid: rows, or the generation before, cannot be read.
        WriteFailed: disk full or I/O error; nothing is kept.
        ShardSizeMismatch: an index of this name exists and is damaged.
    """
    if not segments:
        raise RowsInvalid("an index needs at least one segment")
    sides = _open(root, segments, modality)
    dims = sorted({side.shape[1] for side in sides})
    if len(dims) > 1:
        raise RowsInvalid(f"segments of one memory share one D; here {dims}")
    rows = sum(segment.rows for segment in segments)
    report = read_report(root, previous) if previous else {}
    wanted = options or wanted_options(report)
    before = None
    if previous and (extend or (wanted == wanted_options(report) and not outgrown(report, rows, dims[0]))):
        before = _Before(previous, report)
        family = _family(previous, rows, dims[0])
    else:
        family = choose_family(rows, dims[0], wanted)
    with staging_directory(root / "indexes") as staging:
        generation = _Generation(root, staging, segments, modality, family)
        if family.is_exact:
            return _build_exact(generation, sides, wanted, before)
        return _build_lists(generation, (sides, _open(root, segments, OTHER_MODALITY[modality])), wanted, before)


def _family(record: IndexRecord, rows: int, embed_dim: int) -> Family:
    family = parse_factory(record.factory, rows=rows, embed_dim=embed_dim)
    assert family is not None, "the manifest's parser refuses a factory that is none"
    return family


class _Generation:
    """A directory being filled: which files it has so far."""

    def __init__(
        self, root: Path, staging: Path, segments: Sequence[SegmentRecord], modality: Modality, family: Family
    ) -> None:
        self.root = root
        self.staging = staging
        self.modality = modality
        self.family = family
        self.shards = tuple(ShardRecord(segment.id, segment.rows) for segment in segments)
        self._written: dict[str, Written] = {}

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def keep_trained(self, trained: Trained, before: _Before | None) -> None:
        """Write `trained.faiss`, or take over that of the generation before."""
        path = self.staging / _TRAINED
        linked = before and link_shard(self.root, _files(before.record)[_TRAINED], path)
        self._written[_TRAINED] = linked or write_faiss(path, trained.whole)

    def fill(self, trained: Trained, sides: Sides, before: _Before | None) -> list[int]:
        """Write a shard for each segment, or take over the one it has; positions of those that are new."""
        files = _files(before.record) if before else {}
        kept = {shard.segment: shard_name(i) for i, shard in enumerate(before.record.shards)} if before else {}
        writer, new = ShardWriter(trained), []
        for position, (shard, embeddings) in enumerate(zip(self.shards, sides, strict=True)):
            name = shard_name(position)
            if shard.segment in kept:
                self._written[name] = link_shard(self.root, files[kept[shard.segment]], self.staging / name)
            else:
                self._written[name] = writer.write(self.staging / name, embeddings)
                new.append(position)
        return new

    def commit(self, report: Mapping[str, Any], search: SearchParameters | None) -> IndexRecord:
        """Write the report and the description, and give the directory its name."""
        self._written["report.json"] = write_bytes(self.staging / "report.json", canonical_bytes(report))
        description = canonical_bytes(
            {
                "format": FORMAT,
                "kind": self.family.kind,
                **({"quantiser": "fp16"} if self.family.is_exact else {"factory": self.family.factory}),
                "metric": METRIC,
                "modality": self.modality,
                "embed_dim": self.family.embed_dim,
                "shards": [asdict(shard) for shard in self.shards],
                "files": {name: asdict(file) for name, file in self._written.items()},
            }
        )
        self._written["shard.json"] = write_bytes(self.staging / "shard.json", description)
        index_id = content_id(description)
        directory = index_directory(index_id)
        files = tuple(
            FileRecord(f"{directory}/{name}", file.bytes, file.sha256) for name, file in sorted(self._written.items())
        )
        if not commit_directory(self.staging, self.root / directory):
            check_existing(self.root, files)
        return IndexRecord(index_id, self.family.kind, self.shards, files, self.family.factory, search)


def _build_exact(generation: _Generation, sides: Sides, wanted: IndexOptions, before: _Before | None) -> IndexRecord:
    embed_dim = generation.family.embed_dim
    # fp16, as the rows are already: the index holds them without loss
    empty = faiss.IndexScalarQuantizer(embed_dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    trained = take_apart(empty)
    generation.keep_trained(trained, before)
    generation.fill(trained, sides, before)
    return generation.commit(exact_report(generation.rows, wanted), None)


def _build_lists(
    generation: _Generation, both: tuple[Sides, Sides], wanted: IndexOptions, before: _Before | None
) -> IndexRecord:
    began = time.monotonic()
    sides, others = both
    family, rows = generation.family, StoredRows(sides)
    if before:
        trained = open_trained(generation.root / index_directory(before.record.id) / _TRAINED, family)
        training, measured = before.report["training"], before.report["measured"]
        nearness = {shard["segment"]: shard["similarity"] for shard in before.report["shards"]}
    else:
        split = split_rows(len(rows), family.lists, seed=_seed(generation))
        trained, training = _train(family, rows, split)
        nearness = {}
    generation.keep_trained(trained, before)
    for position in generation.fill(trained, sides, before):
        nearness[generation.shards[position].segment] = mean_similarity(trained, _some(sides[position]))
    if not before:
        trial = Trial(generation.staging, family, tuple(shard.rows for shard in generation.shards))
        measured, times = try_out(trial, rows, StoredRows(others), split.held_out, wanted.recall)
    similarities = [nearness[shard.segment] for shard in generation.shards]
    report = list_report(
        family, wanted, generation.shards, training=training, measured=measured, similarities=similarities
    )
    record = generation.commit(report, _parameters(measured))
    if not before:
        spent = {"seconds": round(time.monotonic() - began, 1), **times}
        keep_times(generation.root, generation.modality, record, spent)
    return record


def _parameters(measured: Mapping[str, Any]) -> SearchParameters:
    return SearchParameters(measured["nprobe"], measured["num_candidates"], measured.get("margin"))


def _train(family: Family, rows: StoredRows, split: Split) -> tuple[Trained, dict[str, Any]]:
    sample = rows.take(split.training).astype(np.float32)
    trained = train(family, sample)
    similarity = mean_similarity(trained, rows.take(split.held_out).astype(np.float32))
    return trained, training_report(rows=len(sample), of=len(rows), similarity=similarity)


def _some(rows: NDArray[Any]) -> NDArray[np.float32]:
    """About `_DRIFT_ROWS` of the rows, spread evenly."""
    some: NDArray[np.float32] = rows[:: max(1, len(rows) // _DRIFT_ROWS)].astype(np.float32)
    return some


def _seed(generation: _Generation) -> str:
    return "\0".join((generation.modality, *(shard.segment for shard in generation.shards)))


def _open(root: Path, segments: Sequence[SegmentRecord], modality: Modality) -> Sides:
    names = (root / segment_directory(segment.id) / EMBEDDING_FILES[modality] for segment in segments)
    return [open_embeddings(path, segment.rows) for path, segment in zip(names, segments, strict=True)]


def _files(record: IndexRecord) -> dict[str, FileRecord]:
    return {file.path.rpartition("/")[2]: file for file in record.files}
