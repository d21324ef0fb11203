"""A table with an image path and a caption a row: CSV, TSV (both with a header and CSV quoting), JSON lines; UTF-8.

Standard library only. Paths are relative to the table and never lead out of its folder.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.reader import Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed, stem_of
from memory_builder.readers.source import Source, image_inside, image_stamp, read_image, root_of, stamp_of
from memory_builder.readers.table_lines import DELIMITERS, JSON_LINES, Line, columns, lines
from memory_builder.records import Record, Rejected, Row, RowRejected, check_key, readable

TABLE_EXTENSIONS = (*DELIMITERS, *JSON_LINES)
IMAGE_COLUMNS = ("path", "image", "file", "filename", "filepath")
CAPTION_COLUMNS = ("caption", "text", "title")


class _Range(NamedTuple):
    """A piece's place: its first row's number, from 1, and position in the file that had `stamp`."""

    number: int
    begin: int
    stamp: Stamp


class TableReader:
    """Rows of a table.

    The key is `<table's name without extension>/<path without extension>`, or `<table>/<value of
    key_column>`. Rows of the same path (several captions of one image) need a key column, or all but the
    first are duplicates.
    """

    kind = "table"

    def __init__(self, path: Source, name: str, options: ReaderOptions) -> None:
        """Read the header.

        Raises:
            CorpusError: table_columns, table_invalid, source_unreadable.
        """
        self.name = name
        self.ignored = 0
        self.example_ignored = ""
        self._path = path
        self._root = root_of(path)
        self._max_image_bytes = options.max_image_bytes
        self._head = columns(path)
        self._image = self._choose("image", options.image_column, IMAGE_COLUMNS)
        self._caption = self._choose("caption", options.caption_column, CAPTION_COLUMNS)
        self._key = self._choose("key", options.key_column, ()) if options.key_column else ""

    def options(self) -> Mapping[str, str]:
        """The columns, and what is between fields where the extension does not say it."""
        chosen = {"image_column": self._image, "caption_column": self._caption, "key_column": self._key}
        usual = DELIMITERS.get(self._path.suffix.lower(), "")
        return chosen if self._head.delimiter == usual else {**chosen, "delimiter": self._head.delimiter}

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: in the table's order. A row is its text, and its image's size and time of change."""
        stamp = self._table_stamp()
        place, number, digest = _Range(1, self._head.begin, stamp), 0, hashlib.sha256()
        for number, line in enumerate(lines(self._path, self._head.begin, self._head), start=1):
            if number == place.number + unit_rows:
                yield Piece(unit_rows, digest.hexdigest(), place)
                place, digest = _Range(number, line.begin, stamp), hashlib.sha256()
            digest.update(line.data + json.dumps(self._image_stamp(line)).encode() + b"\n")
        if not number:
            raise CorpusError("source_empty", f"The table {self._path} has no row.")
        yield Piece(number + 1 - place.number, digest.hexdigest(), place)

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader."""
        place: _Range = piece.place
        if self._table_stamp() != place.stamp:
            raise changed(self._path)
        found = lines(self._path, place.begin, self._head)
        for number in range(place.number, place.number + piece.rows):
            line = next(found, None)
            if line is None:
                raise changed(self._path)
            yield self._row(line, number)

    def _row(self, line: Line, number: int) -> Row:
        key = f"{self.name}/row {number}"
        source = f"{self._path.name} row {number}"
        try:
            path = self._image_path(line)
            key = f"{self.name}/{readable(self._own_key(line, path))}"
            caption = _text(line, self._caption, "missing_caption", "The row has no caption.")
            image = partial(read_image, image_inside(self._root, path), self._max_image_bytes)
            return Record(check_key(key), caption, image, source)
        except RowRejected as rejected:
            return Rejected(key, rejected.code, rejected.detail, source)

    def _own_key(self, line: Line, path: str) -> str:
        if not self._key:
            return stem_of(path)
        value = (line.values or {}).get(self._key)
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise RowRejected("key_invalid", "The row's key is neither a text nor a whole number.")
        return str(value)

    def _image_path(self, line: Line) -> str:
        path = _text(line, self._image, "missing_image", "The row names no image.")
        if not path or "\0" in path:
            raise RowRejected("missing_image", "The row names no image.")
        return os.path.normpath(path)

    def _image_stamp(self, line: Line) -> Stamp | None:
        try:
            return image_stamp(self._root, self._image_path(line))
        except RowRejected:
            return None

    def _table_stamp(self) -> Stamp:
        try:
            return stamp_of(self._path)
        except OSError as error:
            raise changed(self._path) from error

    def _choose(self, what: str, wanted: str | None, usual: tuple[str, ...]) -> str:
        if wanted is not None:
            if wanted in self._head.columns:
                return wanted
            expected = f"no column {wanted!r}"
        else:
            by_name = {column.strip().lower(): column for column in reversed(self._head.columns)}
            for name in usual:
                if name in by_name:
                    return by_name[name]
            expected = f"none of the columns {', '.join(usual)}: name it with --{what}-column"
        found = ", ".join(map(readable, self._head.columns[:20])) or "none"
        raise CorpusError("table_columns", f"{self._path} has {expected}. Its columns: {found}.")


def _text(line: Line, column: str, code: str, detail: str) -> str:
    if line.values is None:
        raise RowRejected("row_invalid", "The row cannot be parsed, or its number of fields is not the header's.")
    value = line.values.get(column)
    if value is None:
        raise RowRejected(code, detail)
    if not isinstance(value, str):
        raise RowRejected("row_invalid", "The image path and the caption of a row must be texts.")
    return value
