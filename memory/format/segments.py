"""Segments: immutable rows on disk, row i of one side paired with row i of the other. numpy and pyarrow.

segments/<id>/ image.f16.npy  text.f16.npy  items.arrow  segment.json      id = hash of segment.json
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from memory.errors import MemoryStoreError, RowsInvalid, SegmentInvalid, ShardSizeMismatch, TooManyOpenFiles
from memory.format.durable import (
    HashingWriter,
    Written,
    commit_directory,
    staging_directory,
    write_bytes,
    write_file,
)
from memory.format.manifest import (
    FORMAT,
    FileRecord,
    SegmentRecord,
    UnitRecord,
    content_id,
    segment_directory,
)
from memory.format.rows import BLOCK_ROWS, ITEMS_SCHEMA, Rows, check_forms, embedding_blocks, item_batches
from memory.format.strict_json import canonical_bytes
from memory.neighbours import MODALITIES, Modality

EMBEDDING_FILES: Final[dict[Modality, str]] = {"image": "image.f16.npy", "text": "text.f16.npy"}


def write_segment(root: Path, parts: Sequence[Rows], units: Sequence[UnitRecord]) -> SegmentRecord:
    """Write rows as one segment, block by block: the parts may be memory-mapped and larger than RAM.

    The name of a segment is a hash of what it holds, so writing the same rows and units again, however they
    are cut into parts, gives the same record and keeps the directory that is there.

    Args:
        root: the memory's directory; made if need be.
        parts: rows in id order, all of one D.
        units: the units the rows came from, in the same order; their rows add up to those of the parts.

    Raises:
        RowsInvalid: rows that are malformed, not finite or not unit norm; nothing is kept.
        WriteFailed: disk full or I/O error; nothing is kept.
        ShardSizeMismatch: a segment of this name exists and is damaged.
    """
    rows, embed_dim = check_forms(parts)
    if sum(unit.rows for unit in units) != rows:
        raise RowsInvalid(f"the units hold {sum(unit.rows for unit in units)} rows, the parts {rows}")
    with staging_directory(root / "segments") as staging:
        written: dict[str, Written] = {}
        for modality, name in EMBEDDING_FILES.items():
            write = partial(_write_embeddings, parts, modality, (rows, embed_dim))
            written[name] = write_file(staging / name, write)
        written["items.arrow"] = write_file(staging / "items.arrow", partial(_write_items, parts))
        description = canonical_bytes(
            {
                "format": FORMAT,
                "rows": rows,
                "embed_dim": embed_dim,
                "units": [asdict(unit) for unit in units],
                "files": {name: asdict(file) for name, file in written.items()},
            }
        )
        written["segment.json"] = write_bytes(staging / "segment.json", description)
        segment_id = content_id(description)
        directory = segment_directory(segment_id)
        files = tuple(
            FileRecord(f"{directory}/{name}", file.bytes, file.sha256) for name, file in sorted(written.items())
        )
        if not commit_directory(staging, root / directory):
            check_existing(root, files)
    return SegmentRecord(segment_id, rows, tuple(units), files)


def check_existing(root: Path, files: Sequence[FileRecord]) -> None:
    """Check that files committed earlier under the same content hash still have their sizes.

    Raises:
        ShardSizeMismatch: one is missing, cut short or grown.
    """
    for file in files:
        path = root / file.path
        found = path.stat().st_size if path.is_file() else None
        if found != file.bytes:
            raise ShardSizeMismatch(
                file.path,
                f"exists with {found} bytes where the same contents have {file.bytes}. "
                "Move its directory away and run the same command again.",
            )


class Segment:
    """An opened segment, memory-mapped; safe to read from several threads.

    Attributes:
        rows: number of rows N.
        base_row: global id of row 0.
    """

    def __init__(self, root: Path, record: SegmentRecord, *, base_row: int, embed_dim: int) -> None:
        """Map the files of a segment whose sizes and hashes were checked before.

        Raises:
            SegmentInvalid: rows, columns or dtype are not what the manifest says.
        """
        self.rows = record.rows
        self.base_row = base_row
        directory = root / segment_directory(record.id)
        self._sides: dict[Modality, NDArray[np.float16]] = {
            modality: open_embeddings(directory / EMBEDDING_FILES[modality], record.rows, embed_dim)
            for modality in MODALITIES
        }
        self._batches = _open_items(directory / "items.arrow", record.rows)

    def side(self, modality: Modality) -> NDArray[np.float16]:
        """(N, D) float16, memory-mapped and read-only."""
        return self._sides[modality]

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """Items of some rows, all columns or some, in the order given; one `take` per record batch touched."""
        # Table.take looks at every chunk of the table, however few rows are asked for.
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        cuts = np.flatnonzero(np.diff(ordered // BLOCK_ROWS)) + 1
        schema = ITEMS_SCHEMA if columns is None else pa.schema([ITEMS_SCHEMA.field(name) for name in columns])
        taken = [
            pc.take(self._batches[int(group[0]) // BLOCK_ROWS].select(schema.names), pa.array(group % BLOCK_ROWS))
            for group in np.split(ordered, cuts)
            if group.size
        ]
        back = pa.array(np.argsort(order, kind="stable"))
        return pc.take(pa.Table.from_batches(taken, schema), back)

    def find(self, column: str, values: pa.Array) -> NDArray[np.int64]:
        """Rows (n,), ascending, whose column holds one of the values; one pass that leaves the interpreter free."""
        every = pa.chunked_array([batch.column(column) for batch in self._batches], type=values.type)
        return np.flatnonzero(pc.is_in(every, value_set=values).to_numpy())

    def table(self) -> pa.Table:
        """All items, memory-mapped, in batches of `BLOCK_ROWS`."""
        return pa.Table.from_batches(self._batches, ITEMS_SCHEMA)

    def column(self, name: str) -> list[str]:
        """One column of all rows."""
        return [value for block in self.blocks(name) for value in block]

    def blocks(self, name: str) -> Iterator[list[str]]:
        """One column, a record batch at a time."""
        return (batch.column(name).to_pylist() for batch in self._batches)


def open_embeddings(path: Path, rows: int, embed_dim: int | None = None) -> NDArray[np.float16]:
    """Map an .npy file of (rows, D) float16; any D if `embed_dim` is None.

    Raises:
        SegmentInvalid: another shape, dtype or order, or not an .npy file.
    """
    try:
        array = npy.open_memmap(path, mode="r")  # np.load would also take a zip or a pickle
    except (ValueError, OSError, EOFError) as error:
        raise _unmapped(path, error) from error
    expected = (rows, *(array.shape[1:2] if embed_dim is None else (embed_dim,)))
    if array.dtype != np.float16 or array.shape != expected or not array.flags.c_contiguous:
        raise SegmentInvalid(path, f"holds {array.dtype}{list(array.shape)}, expected float16{list(expected)}")
    return array


def _open_items(path: Path, rows: int) -> list[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        batches = [reader.get_batch(position) for position in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate(full=False)
    except (pa.ArrowException, OSError) as error:
        raise _unmapped(path, error) from error
    sizes = [batch.num_rows for batch in batches]
    whole, rest = divmod(rows, BLOCK_ROWS)
    if not reader.schema.equals(ITEMS_SCHEMA) or sizes != [BLOCK_ROWS] * whole + [rest] * (rest > 0):
        raise SegmentInvalid(path, f"holds {sum(sizes)} rows or other columns or batches; {rows} rows expected")
    return batches


def _unmapped(path: Path, error: Exception) -> MemoryStoreError:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyOpenFiles(
            f"{path}: the system lets this process open no more files. Raise `ulimit -n`; of a memory of many small "
            "builds, `reco memory compact` joins the segments, which have files open each."
        )
    return SegmentInvalid(path, f"cannot be mapped: {error}")


def _write_embeddings(parts: Sequence[Rows], modality: Modality, shape: tuple[int, int], stream: HashingWriter) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, header)
    for block in embedding_blocks(parts, modality):
        stream.write(block)


def _write_items(parts: Sequence[Rows], stream: HashingWriter) -> None:
    with pa.PythonFile(stream, mode="w") as sink, pa.ipc.new_file(sink, ITEMS_SCHEMA) as writer:
        for batch in item_batches(parts):
            writer.write_batch(batch)
