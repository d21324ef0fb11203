"""Arrow files with images and captions: one `.arrow`, or the folder that Hugging Face's `save_to_disk` writes. pyarrow.

Both forms are read, the stream (which `datasets` writes) and the random-access file. Batches are found by a scan that
maps the file and touches their headers only; their bytes are read, not mapped: a mapped file that another program cuts
short would kill the build.
"""

import hashlib
import json
import os
import shlex
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from memory_builder.errors import CorpusError
from memory_builder.readers.columnar import (
    STEP_ROWS,
    Place,
    checked,
    choose_columns,
    names_paths,
    path_stamps,
    row_parts,
    rows_of,
)
from memory_builder.readers.columns import Columns, Part
from memory_builder.readers.reader import Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed, read_range
from memory_builder.records import Row, readable

_FILE_MAGIC = b"ARROW1"
_STREAM_ENDS = (b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0")


class _Batch(NamedTuple):
    """Where a record batch lies in its file, and its rows; in a random-access file by its number."""

    rows: int
    offset: int
    size: int


@dataclass(frozen=True)
class _ArrowFile:
    """One file: its batches as they were scanned."""

    path: Path
    stamp: Stamp
    schema: pa.Schema
    batches: Sequence[_Batch]
    is_stream: bool

    @property
    def rows(self) -> int:
        return sum(batch.rows for batch in self.batches)

    def read(self, position: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Some columns of the record batch of a number.

        Raises:
            CorpusError: source_changed, table_invalid.
        """
        try:
            batch = self.batches[position]
            if self.is_stream:
                data = read_range(self.path, self.stamp, batch.offset, batch.size)
                found = pa.ipc.read_record_batch(pa.ipc.read_message(data), self.schema)
                return checked(found, columns)
            with pa.OSFile(str(self.path)) as file:
                found = pa.ipc.open_file(file).get_batch(position)
            if Stamp.of(self.path.stat()) != self.stamp:
                raise changed(self.path)
            return checked(found, columns)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.path, error) from error


class _Range(NamedTuple):
    """A piece's place: rows of one file, but for the first `skip` pairs of them."""

    file: _ArrowFile
    start: int
    stop: int
    skip: int = 0


class ArrowReader:
    """Rows of one Arrow file, or of the files of a saved dataset, in their order.

    The key is `<name>/<value of key_column>`, else `<name>/<path without its extension>` where the images are paths,
    else `<name>/<number of the row>`, in a saved dataset `<name>/<file>/<number of the row>`, from 0. To a key
    or number, images of several columns add their column, and those of a list their position.
    """

    kind = "arrow"

    def __init__(self, paths: Sequence[Path], name: str, options: ReaderOptions) -> None:
        """Scan the files.

        Raises:
            CorpusError: table_invalid, table_columns, source_unreadable, source_truncated.
        """
        self.name = name
        self.ignored = 0
        self.example_ignored = ""
        self._files = [_scan(path) for path in paths]
        self._columns: Columns = choose_columns(self._files[0].schema, paths[0], options)
        self._max_image_bytes = options.max_image_bytes
        for file in self._files[1:]:
            if not file.schema.equals(self._files[0].schema):
                raise CorpusError(
                    "table_invalid", f"{file.path} has other columns than {paths[0].name}: save the dataset again."
                )

    def options(self) -> Mapping[str, str]:
        """The columns."""
        return self._columns.options()

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: file by file. A row is known by its place and by the state of its file."""
        if not sum(file.rows for file in self._files):
            raise CorpusError("source_empty", f"The dataset {self.name} has no row.")
        for file in self._files:
            for first in range(0, file.rows, unit_rows):
                for start, skip, stop, pairs in self._parts(file, first, unit_rows):
                    place = _Range(file, start, stop, skip)
                    state = [file.path.name, start, stop, file.stamp, self._image_stamps(place)]
                    state += [skip] if skip else []
                    yield Piece(pairs, hashlib.sha256(json.dumps(state).encode()).hexdigest(), place)

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader."""
        yield from islice(self._rows(piece.place), piece.place.skip, piece.place.skip + piece.rows)

    def _parts(self, file: _ArrowFile, start: int, unit_rows: int) -> list[Part]:
        """Rows that are a piece; where they may have several images, they are read to be counted."""
        stop = min(start + unit_rows, file.rows)
        batches = _batches(_Range(file, start, stop), self._columns.images)
        return row_parts(batches, file.schema, self._columns, range(start, stop), unit_rows)

    def _rows(self, place: _Range) -> Iterator[Row]:
        """All pairs of the rows of a place."""
        for first, batch in _batches(place, self._columns.names):
            for start in range(0, batch.num_rows, STEP_ROWS):
                step = batch.slice(start, STEP_ROWS)
                yield from rows_of(step, self._columns, self._place(place.file), first + start)

    def _image_stamps(self, place: _Range) -> list[Stamp | None]:
        if not names_paths(place.file.schema, self._columns):
            return []
        belongs = self._place(place.file)
        return [
            stamp
            for _, batch in _batches(place, self._columns.images)
            for stamp in path_stamps(batch, self._columns, belongs)
        ]

    def _place(self, file: _ArrowFile) -> Place:
        by_number = not self._columns.key and not names_paths(file.schema, self._columns)
        prefix = f"{self.name}/{readable(file.path.stem)}" if by_number and len(self._files) > 1 else self.name
        return Place(prefix, file.path.name, Path(os.path.realpath(file.path.parent)), self._max_image_bytes)


def saved_dataset(folder: Path) -> list[Path] | None:
    """The files of a folder that `save_to_disk` wrote, in their order; None if it is another folder.

    Raises:
        CorpusError: corpus_format_unknown (several splits: one is to be named), table_invalid.
    """
    splits = folder / "dataset_dict.json"
    state = folder / "state.json"
    try:
        if splits.is_file():
            names = [readable(str(name)) for name in json.loads(splits.read_bytes())["splits"]]
            raise CorpusError(
                "corpus_format_unknown",
                f"{folder} holds several datasets: {', '.join(names)}. Name the ones to read: "
                f"{shlex.join(str(folder / name) for name in names)}",
            )
        if not (state.is_file() and (folder / "dataset_info.json").is_file()):
            return None
        names = [file["filename"] for file in json.loads(state.read_bytes())["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError("table_invalid", f"{folder} is no dataset that save_to_disk wrote: {error}.") from error
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise CorpusError("table_invalid", f"{state} names no data files, or names that lead elsewhere.")
    return [folder / name for name in names]


def _scan(path: Path) -> _ArrowFile:
    try:
        stamp = Stamp.of(path.stat())
        with pa.memory_map(str(path)) as file:
            is_stream = file.read(len(_FILE_MAGIC)) != _FILE_MAGIC
            file.seek(0)
            schema, batches = _scan_stream(file, path) if is_stream else _scan_file(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if any(pa.types.is_dictionary(field.type) for field in schema):
        raise CorpusError("table_invalid", f"{path} has dictionary columns: save their values instead, or as Parquet.")
    return _ArrowFile(path, stamp, schema, batches, is_stream)


def _scan_stream(file: Any, path: Path) -> tuple[pa.Schema, list[_Batch]]:
    """The batches of a stream, and proof that none is missing: a reader takes a cut between two of them for the end."""
    batches: list[_Batch] = []
    reader = pa.ipc.open_stream(file)
    offset = file.tell()
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        batches.append(_Batch(batch.num_rows, offset, file.tell() - offset))
        offset = file.tell()
    file.seek(offset)
    if not file.read(len(_STREAM_ENDS[0])).startswith(_STREAM_ENDS):
        raise CorpusError(
            "source_truncated",
            f"{path} does not end as an Arrow stream does: record batches may be missing. Copy or write it again; "
            "nothing of it was used.",
        )
    return reader.schema, batches


def _scan_file(file: Any) -> tuple[pa.Schema, list[_Batch]]:
    reader = pa.ipc.open_file(file)
    return reader.schema, [
        _Batch(reader.get_batch(position).num_rows, 0, 0) for position in range(reader.num_record_batches)
    ]


def _batches(place: _Range, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The parts of record batches that lie in a range, and the number of the first row of each."""
    begins = [0, *accumulate(batch.rows for batch in place.file.batches)]
    position = bisect_right(begins, place.start) - 1
    while position < len(place.file.batches) and begins[position] < place.stop:
        first = max(place.start, begins[position])
        batch = place.file.read(position, columns)
        if batch.num_rows != place.file.batches[position].rows:
            raise changed(place.file.path)
        yield first, batch.slice(first - begins[position], place.stop - first)
        position += 1


def _unreadable(path: Path, error: object) -> CorpusError:
    return CorpusError("table_invalid", f"{path} cannot be read as Arrow ({error}). Copy or write it again.")
