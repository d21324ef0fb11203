"""The exact index of one modality: FAISS ScalarQuantizer fp16 over inner products, one shard per segment.

    indexes/<id>/ trained.faiss  shard-00000.faiss …  shard.json  report.json      id = hash of shard.json

FAISS and numpy. Shapes: B queries, K neighbours, D embedding dimension, N rows of a shard.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from memory.durable import (
    HashingWriter,
    Written,
    commit_directory,
    staging_directory,
    write_bytes,
    write_file,
)
from memory.errors import RowsInvalid, ShardInvalid
from memory.manifest import (
    EXACT,
    FORMAT,
    METRIC,
    FileRecord,
    IndexRecord,
    SegmentRecord,
    ShardRecord,
    content_id,
    index_directory,
    segment_directory,
    shard_name,
)
from memory.neighbours import Modality
from memory.rows import BLOCK_ROWS
from memory.segments import EMBEDDING_FILES, check_existing, open_embeddings
from memory.strict_json import canonical_bytes

QUANTISER = "fp16"  # the rows are fp16 already: the index holds them without loss
NUM_PROBES = 16


def build_index(root: Path, segments: Sequence[SegmentRecord], modality: Modality) -> IndexRecord:
    """Build one generation of the exact index of a modality, a shard for each segment.

    FAISS holds one shard at a time in memory (2·D bytes a row), so a segment should not be larger than that
    allows. Building the same segments again gives the same record and keeps the directory that is there.

    Raises:
        RowsInvalid: no segments, or segments of different D.
        SegmentInvalid: a segment's rows cannot be read.
        WriteFailed: disk full or I/O error; nothing is kept.
        ShardSizeMismatch: an index of this name exists and is damaged.
    """
    sides = [_embeddings(root, segment, modality) for segment in segments]
    if not sides:
        raise RowsInvalid("an index needs at least one segment")
    embed_dim = sides[0].shape[1]
    if any(side.shape[1] != embed_dim for side in sides):
        raise RowsInvalid(f"segments of one memory share one D; here {sorted({side.shape[1] for side in sides})}")
    trained = faiss.IndexScalarQuantizer(embed_dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    with staging_directory(root / "indexes") as staging:
        written: dict[str, Written] = {"trained.faiss": _write_faiss(staging / "trained.faiss", trained)}
        for position, embeddings in enumerate(sides):
            shard = faiss.clone_index(trained)
            for start in range(0, len(embeddings), BLOCK_ROWS):
                shard.add(embeddings[start : start + BLOCK_ROWS].astype(np.float32))
            written[shard_name(position)] = _write_faiss(staging / shard_name(position), shard)
        report = {"kind": EXACT, "rows": sum(segment.rows for segment in segments)}
        written["report.json"] = write_bytes(staging / "report.json", canonical_bytes(report))
        shards = tuple(ShardRecord(segment.id, segment.rows) for segment in segments)
        description = canonical_bytes(
            {
                "format": FORMAT,
                "kind": EXACT,
                "quantiser": QUANTISER,
                "metric": METRIC,
                "modality": modality,
                "embed_dim": embed_dim,
                "shards": [asdict(shard) for shard in shards],
                "files": {name: asdict(file) for name, file in written.items()},
            }
        )
        written["shard.json"] = write_bytes(staging / "shard.json", description)
        index_id = content_id(description)
        directory = index_directory(index_id)
        files = tuple(
            FileRecord(f"{directory}/{name}", file.bytes, file.sha256) for name, file in sorted(written.items())
        )
        if not commit_directory(staging, root / directory):
            check_existing(root, files)
    return IndexRecord(index_id, EXACT, shards, files)


def open_faiss(path: Path, *, rows: int, embed_dim: int) -> Any:
    """Map one FAISS file whose size and hash were checked before.

    Raises:
        ShardInvalid: not an fp16 scalar quantiser over inner products, or another D or number of rows.
    """
    try:
        # IO_FLAG_MMAP quietly reads a scalar quantiser into memory; this flag maps it (0 anonymous bytes,
        # 1.15.1).
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise ShardInvalid(path, "FAISS cannot read it") from error
    if not isinstance(index, faiss.IndexScalarQuantizer):
        raise ShardInvalid(path, f"is a {type(index).__name__}, expected IndexScalarQuantizer")
    found = (index.d, index.ntotal, index.metric_type, index.sq.qtype)
    expected = (embed_dim, rows, faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16)
    if found != expected:
        raise ShardInvalid(path, f"its (D, rows, metric, quantiser) is {found}, expected {expected}")
    return index


def open_shard(path: Path, embeddings: NDArray[np.float16], *, probes: int | None = NUM_PROBES) -> Any:
    """Map a shard and check that it holds the rows of its segment.

    Args:
        path: the FAISS file.
        embeddings: (N, D) float16 rows of the segment.
        probes: how many rows to compare, spread evenly; None compares all.

    Raises:
        ShardInvalid: as `open_faiss`, or a row differs.
    """
    rows, embed_dim = embeddings.shape
    index = open_faiss(path, rows=rows, embed_dim=embed_dim)
    if probes is None:
        blocks = [(start, min(BLOCK_ROWS, rows - start)) for start in range(0, rows, BLOCK_ROWS)]
    else:
        blocks = [(int(row), 1) for row in np.unique(np.linspace(0, rows - 1, probes).astype(np.int64))]
    for start, count in blocks:
        held = index.reconstruct_n(start, count)
        if not np.array_equal(held, embeddings[start : start + count].astype(np.float32)):
            raise ShardInvalid(path, f"rows {start} to {start + count - 1} are not those of its segment")
    return index


def _embeddings(root: Path, segment: SegmentRecord, modality: Modality) -> NDArray[np.float16]:
    return open_embeddings(root / segment_directory(segment.id) / EMBEDDING_FILES[modality], segment.rows)


def _write_faiss(path: Path, index: Any) -> Written:
    return write_file(path, partial(_stream_faiss, index))


def _stream_faiss(index: Any, stream: HashingWriter) -> None:
    # faiss.write_index(name) truncates the final name, never fsyncs, and leaves a partial file when the
    # disk fills. No BufferedIOWriter in between: it writes its rest in a destructor, where an error would
    # end the process.
    faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))  # type: ignore[attr-defined]
