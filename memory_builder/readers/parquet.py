"""A Parquet file with images, or paths of images, and captions. pyarrow; read in small steps, never a row group whole.

A row group is decoded from its beginning on, so a unit that begins within one goes on where the unit before it ended.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memory_builder.errors import CorpusError
from memory_builder.readers.columnar import (
    STEP_ROWS,
    Place,
    choose_columns,
    names_paths,
    path_stamps,
    row_parts,
    rows_of,
)
from memory_builder.readers.columns import Part
from memory_builder.readers.reader import Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed
from memory_builder.readers.source import Source, for_arrow, root_of, stamp_of, told
from memory_builder.records import Row

_OPEN_CURSORS = 4


class _Range(NamedTuple):
    """A piece's place: rows of the file that had `stamp`, but for the first `skip` pairs of them."""

    start: int
    stop: int
    stamp: Stamp
    skip: int = 0


class ParquetReader:
    """Rows of a Parquet file.

    The key is `<file's name without .parquet>/<value of key_column>`, else `/<path without its extension>` where the
    images are paths, else `/<number of the row>`, from 0. To a key or number, images of several columns add their
    column, and those of a list their position.
    """

    kind = "parquet"

    def __init__(self, path: Source, name: str, options: ReaderOptions) -> None:
        """Read the footer.

        Raises:
            CorpusError: table_invalid, table_columns, source_unreadable.
        """
        self.name = name
        self.ignored = 0
        self.example_ignored = ""
        self._path = path
        self._stamp = self._stamped()
        with self._opened() as file:
            self._schema = file.schema_arrow
            self._groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        self._columns = choose_columns(self._schema, path, options)
        self._place = Place(name, path.name, root_of(path), options.max_image_bytes)
        self._cursors = _Cursors()

    def options(self) -> Mapping[str, str]:
        """The columns."""
        return self._columns.options()

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: whole row groups where they are small enough, else parts of one."""
        if not sum(self._groups):
            raise CorpusError("source_empty", f"The table {self._path} has no row.")
        if self._stamped() != self._stamp:
            raise changed(self._path)
        for first, last in _ranges(self._groups, unit_rows):
            for start, skip, stop, pairs in self._parts(first, last, unit_rows):
                state = [start, stop, self._stamp, self._image_stamps(start, stop), *([skip] if skip else [])]
                place = _Range(start, stop, self._stamp, skip)
                yield Piece(pairs, hashlib.sha256(json.dumps(state).encode()).hexdigest(), place)

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader."""
        for position, row in enumerate(self._rows(piece.place), start=-piece.place.skip):
            if 0 <= position < piece.rows:
                yield row

    def _rows(self, place: _Range) -> Iterator[Row]:
        """All pairs of the rows of a place."""
        for first, batch in self._batches(place.start, place.stop, self._columns.names):
            if self._stamped() != place.stamp:
                raise changed(self._path)
            yield from rows_of(batch, self._columns, self._place, first)

    def _parts(self, start: int, stop: int, unit_rows: int) -> list[Part]:
        """Rows that are a piece; where they may have several images, they are read to be counted."""
        batches = self._batches(start, stop, list(self._columns.images))
        return row_parts(batches, self._schema, self._columns, range(start, stop), unit_rows)

    def _image_stamps(self, start: int, stop: int) -> list[Stamp | None]:
        if not names_paths(self._schema, self._columns):
            return []
        batches = self._batches(start, stop, list(self._columns.images))
        return [stamp for _, batch in batches for stamp in path_stamps(batch, self._columns, self._place)]

    def _batches(self, start: int, stop: int, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Row numbers, and the batches that begin with them."""
        try:
            with told(self._path):
                cursor = self._cursor(start, columns)
                while cursor.row < stop:
                    row = cursor.row
                    batch = cursor.next(stop)
                    if row >= start:
                        yield row, batch
                    elif cursor.row > start:
                        yield start, batch.slice(start - row)
            self._cursors.leave(cursor)
        except StopIteration:
            raise changed(self._path) from None
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _cursor(self, start: int, columns: list[str]) -> "_Cursor":
        """One that is nearest before a row: where another reading ended, or at the beginning of the row's group."""
        group, before = 0, 0
        while start >= before + self._groups[group]:
            before += self._groups[group]
            group += 1
        idle = self._cursors.take(before, start, tuple(columns))
        if idle is not None:
            return idle
        file = self._opened()
        groups = list(range(group, len(self._groups)))
        batches = file.iter_batches(STEP_ROWS, row_groups=groups, columns=columns, use_threads=False)
        return _Cursor(before, tuple(columns), batches)

    def _opened(self) -> pq.ParquetFile:
        try:
            # Unbuffered, a column chunk would be read whole before its first row is seen.
            with told(self._path):
                return pq.ParquetFile(
                    for_arrow(self._path),
                    memory_map=False,
                    pre_buffer=False,
                    buffer_size=1 << 20,
                    page_checksum_verification=True,
                )
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _stamped(self) -> Stamp:
        try:
            return stamp_of(self._path)
        except OSError as error:
            raise changed(self._path) from error

    def _unreadable(self, error: Exception) -> CorpusError:
        return CorpusError(
            "table_invalid", f"{self._path} cannot be read as Parquet ({error}). Copy or write it again."
        )


class _Cursor:
    """Reads on from a row."""

    def __init__(self, row: int, columns: tuple[str, ...], batches: Iterator[pa.RecordBatch]) -> None:
        self.row, self.columns = row, columns
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def next(self, stop: int) -> pa.RecordBatch:
        """The next rows, up to `stop`."""
        while not self._rest:
            self._rest = next(self._batches)
        batch, self._rest = self._rest.slice(0, stop - self.row), self._rest.slice(stop - self.row)
        self.row += batch.num_rows
        return batch


class _Cursors:
    """Cursors that nobody uses at the moment; safe to share, and forgotten when it is sent to another process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Cursor] = []

    def take(self, first: int, last: int, columns: tuple[str, ...]) -> _Cursor | None:
        """The furthest between two rows, which then is the caller's."""
        with self._lock:
            fit = [cursor for cursor in self._idle if first <= cursor.row <= last and cursor.columns == columns]
            found = max(fit, key=lambda cursor: cursor.row, default=None)
            if found is not None:
                self._idle.remove(found)
            return found

    def leave(self, cursor: _Cursor) -> None:
        """Give one back where its reading ended."""
        with self._lock:
            self._idle = [*self._idle[1 - _OPEN_CURSORS :], cursor]

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]


def _ranges(groups: list[int], unit_rows: int) -> Iterator[tuple[int, int]]:
    """Rows of the units: groups that fit are kept whole and together, others are cut."""
    start = stop = 0
    for rows in groups:
        if stop - start + rows > unit_rows and stop > start:
            yield start, stop
            start = stop
        stop += rows
        while stop - start > unit_rows:
            yield start, start + unit_rows
            start += unit_rows
    if stop > start:
        yield start, stop
