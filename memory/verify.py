"""Whether the files of a version are those that were committed: sizes, SHA-256, and what the vectors say.

`check_files` runs before FAISS reads a byte and stops at the first fault; `verify_memory` looks for all of
them.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from memory.errors import (
    ManifestInvalid,
    MemoryStoreError,
    SegmentInvalid,
    ShardHashMismatch,
    ShardSizeMismatch,
)
from memory.format.deletes import read_deletes
from memory.format.manifest import FileRecord, Manifest, segment_directory
from memory.format.plain_files import open_plain
from memory.format.removed import read_removed
from memory.format.rows import BLOCK_ROWS, NORM_TOLERANCE
from memory.format.segments import EMBEDDING_FILES, Segment
from memory.format.stamps import Stamp, Stamps, stamp_of
from memory.format.versions import read_manifest
from memory.indexing.kernels import usable_threads
from memory.indexing.reports import read_report
from memory.neighbours import MODALITIES, Modality
from memory.opened import open_index

_MOST_THREADS: Final = 8  # hashlib lets go of the GIL: about 1 GB/s a core, and disks give no more than this many


@dataclass(frozen=True)
class Problem:
    """One fault of a memory: the stable code of the error that opening would raise, and its words."""

    code: str
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_memory` looked at and found.

    Attributes:
        version: the version checked; None if not even its manifest could be read.
        digest: its content digest.
        full: True if hashes and vectors were checked, False if only sizes.
        num_files: files the manifest names.
        num_bytes: their size, as committed.
        problems: empty for a sound memory.
    """

    version: int | None
    digest: str | None
    full: bool
    num_files: int
    num_bytes: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def check_files(root: Path, files: Sequence[FileRecord], *, stamps: Stamps | None = None, force: bool = False) -> None:
    """Check sizes of all files, then the hashes of those without a valid stamp, in threads.

    Args:
        root: the memory's directory.
        files: what the manifest names.
        stamps: hashes known on this host; None hashes everything and keeps no stamp.
        force: hash everything, whatever the stamps say.

    Raises:
        FileMissing, ManifestInvalid, ShardSizeMismatch, ShardHashMismatch: the first fault in path order.
    """
    for file in files:  # cheap, and tells of a missing file before gigabytes are read
        os.close(_open_sized(root, file))
    known = {} if stamps is None or force else stamps.load()
    hashed = frozenset(known.values())  # by file, not by name: a new index takes shards of the one before over
    with _pool() as pool:
        fresh = dict(zip((f.path for f in files), pool.map(lambda f: _check_hash(root, f, hashed), files), strict=True))
    if stamps is not None and fresh != known:
        stamps.save(fresh)


def verify_memory(root: Path, full: bool = False, *, version: int | None = None) -> VerifyReport:
    """Check a version on disk and report every fault; never raises for a damaged memory.

    Args:
        root: the memory's directory.
        full: also hash every file, compare every vector of every shard with its segment, and check all norms.
        version: the highest, unless named.

    Raises:
        MemoryNotFound, VersionNotFound: nothing to verify.
    """
    try:
        manifest = read_manifest(root, version)
    except ManifestInvalid as error:
        return VerifyReport(version, None, full, 0, 0, (_problem(error),))
    check = _hash_fault if full else _size_fault
    with _pool() as pool:
        problems = [p for p in pool.map(lambda file: check(root, file), manifest.files) if p is not None]
    if full and not problems:
        problems.extend(_content_faults(root, manifest))
    num_bytes = sum(file.bytes for file in manifest.files)
    return VerifyReport(manifest.version, manifest.digest, full, len(manifest.files), num_bytes, tuple(problems))


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST_THREADS, usable_threads()), thread_name_prefix="reco-verify")


def _open_sized(root: Path, file: FileRecord) -> int:
    descriptor = open_plain(root, file.path)
    found = os.fstat(descriptor).st_size
    if found != file.bytes:
        os.close(descriptor)
        raise ShardSizeMismatch(file.path, f"has {found} bytes, {file.bytes} were committed; restore it")
    return descriptor


def _check_hash(root: Path, file: FileRecord, hashed: frozenset[Stamp]) -> Stamp:
    with os.fdopen(_open_sized(root, file), "rb") as opened:
        stamp = stamp_of(os.fstat(opened.fileno()), file.sha256)
        if stamp in hashed:
            return stamp
        if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
            raise ShardHashMismatch(file.path, "its bytes are not those that were committed; restore it")
    return stamp


def _size_fault(root: Path, file: FileRecord) -> Problem | None:
    try:
        os.close(_open_sized(root, file))
    except MemoryStoreError as error:
        return _problem(error)
    return None


def _hash_fault(root: Path, file: FileRecord) -> Problem | None:
    try:
        _check_hash(root, file, frozenset())
    except MemoryStoreError as error:
        return _problem(error)
    return None


def _content_faults(root: Path, manifest: Manifest) -> Iterable[Problem]:
    """Open everything and compare everything; for files whose hashes are right."""
    try:
        deleted = read_deletes(root, manifest.deletes, num_rows=manifest.num_rows)
        read_removed(root, manifest)
        segments = [
            Segment(root, record, base_row=base_row, embed_dim=manifest.embed_dim)
            for record, base_row in zip(manifest.segments, manifest.base_rows, strict=True)
        ]
        for modality in MODALITIES:
            read_report(root, manifest.indexes[modality])
            open_index(root, manifest, modality, segments, deleted, probes=None)
            for segment, record in zip(segments, manifest.segments, strict=True):
                _check_norms(segment, record.id, modality)
    except MemoryStoreError as error:
        yield _problem(error)


def _check_norms(segment: Segment, segment_id: str, modality: Modality) -> None:
    side = segment.side(modality)
    for start in range(0, segment.rows, BLOCK_ROWS):
        norms = np.linalg.norm(side[start : start + BLOCK_ROWS].astype(np.float32), axis=1)
        if not (np.abs(norms - 1.0) <= NORM_TOLERANCE).all():
            raise SegmentInvalid(
                f"{segment_directory(segment_id)}/{EMBEDDING_FILES[modality]}",
                "holds rows that are not finite or not unit norm",
            )


def _problem(error: MemoryStoreError) -> Problem:
    return Problem(error.code, str(error))
