"""A table with paths of images and a caption a row: CSV, TSV (both with a header and CSV quoting), JSON lines; UTF-8.

Standard library only. Paths are relative to the table and never lead out of its folder.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.columns import Columns, Usual, choose_columns, image_label
from memory_builder.readers.reader import Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed, stem_of
from memory_builder.readers.source import Source, image_inside, image_stamp, read_image, root_of, stamp_of
from memory_builder.readers.table_lines import DELIMITERS, JSON_LINES, Line, columns, later_columns, lines
from memory_builder.records import Record, Rejected, Row, RowRejected, check_key, readable, told_key

_NO_ROW = (
    "The row cannot be parsed, its number of fields is not the header's, or one of them has more than 131,072 letters."
)
TABLE_EXTENSIONS = (*DELIMITERS, *JSON_LINES)
USUAL = Usual(
    image=("path", "image", "file", "filename", "filepath", "file_name"),  # the last in Hugging Face's metadata.csv
    caption=("caption", "text", "title"),
)


class _Range(NamedTuple):
    """A piece's place: its first line's number, from 1, and where it begins in the file that had `stamp`; the position
    of the first image among those of the line."""

    number: int
    begin: int
    position: int
    stamp: Stamp


class _Image(NamedTuple):
    """What tells an image from the others of its row, and what names it."""

    label: str
    value: object


class TableReader:
    """Rows of a table.

    The key is `<table's name without extension>/<path without extension>`, or `<table>/<value of
    key_column>`, to which images of several columns add their column, and those of a list their position. Rows of the
    same path (several captions of one image) need a key column, or all but the first are duplicates.
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
        self._whole_numbers = options.whole_numbers
        self._head = columns(path)
        self._columns = self._chosen(options)

    def options(self) -> Mapping[str, str]:
        """The columns, what is between fields where the extension does not say it, and which field is which."""
        chosen = dict(self._columns.options())
        if self._head.delimiter != DELIMITERS.get(self._path.suffix.lower(), ""):
            chosen["delimiter"] = self._head.delimiter
        if self._head.delimiter:  # the header is in no row, and says what they mean
            chosen["header"] = json.dumps(self._head.columns)
        return chosen

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: in the table's order. A row is its text, and its images' sizes and times of change."""
        stamp = self._table_stamp()
        place, rows, digest = _Range(1, self._head.begin, 0, stamp), 0, hashlib.sha256()
        for number, line in enumerate(lines(self._path, self._head.begin, self._head), start=1):
            images = self._images(line)
            state = line.data + json.dumps(self._image_stamps(line, images)).encode() + b"\n"
            for position in range(len(images)):
                if rows == unit_rows:
                    yield Piece(rows, digest.hexdigest(), place)
                    place, rows = _Range(number, line.begin, position, stamp), 0
                    digest = hashlib.sha256(f"from {position}".encode() if position else b"")
                if not rows or not position:
                    digest.update(state)
                rows += 1
        if not rows:
            raise CorpusError("source_empty", f"The table {self._path} has no row.")
        yield Piece(rows, digest.hexdigest(), place)

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader."""
        place: _Range = piece.place
        if self._table_stamp() != place.stamp:
            raise changed(self._path)
        yield from islice(self._rows(place), place.position, place.position + piece.rows)

    def _rows(self, place: _Range) -> Iterator[Row]:
        """All rows from the beginning of a place's line on."""
        for number, line in enumerate(lines(self._path, place.begin, self._head), start=place.number):
            for image in self._images(line):
                yield self._row(line, image, number)
        raise changed(self._path)  # or the piece would have ended before

    def _chosen(self, options: ReaderOptions) -> Columns:
        """The columns: of those that the first row has or, if they are not there, of those that others have too."""
        try:
            return choose_columns(self._head.columns, self._path, options, USUAL)
        except CorpusError:
            later = later_columns(self._path, self._head)
            if not later:
                raise
        return choose_columns([*self._head.columns, *later], self._path, options, USUAL)

    def _images(self, line: Line) -> list[_Image]:
        """The images of a row that are there; one that is not, if none is."""
        labels = self._columns.labels
        cells = [(line.values or {}).get(column) for column in labels]
        if len(cells) == 1 and not isinstance(cells[0], list):
            return [_Image("", cells[0])]
        found = [
            _Image(image_label(label, position), value)
            for label, cell in zip(labels.values(), cells, strict=True)
            for position, value in (enumerate(cell) if isinstance(cell, list) else [(None, cell)])
            if not _is_empty(value)
        ]
        return found or [_Image("", None)]

    def _row(self, line: Line, image: _Image, number: int) -> Row:
        key = f"{self.name}/row {number}"
        source = f"{readable(self._path.name)} row {number}"
        if image.label:
            key, source = f"{key}/{image.label}", f"{source}, {image.label}"
        try:
            path = _path(line, image)
            own = self._key(line, path, image.label)
            key = told_key(own, key)
            caption = self._caption(line, own)
            read = partial(read_image, image_inside(self._root, path), self._max_image_bytes)
            return Record(check_key(own), caption, read, source)
        except RowRejected as rejected:
            return Rejected(key, rejected.code, rejected.detail, source)

    def _key(self, line: Line, path: str, label: str) -> str:
        if not self._columns.key:
            return f"{self.name}/{readable(stem_of(path))}"
        value = (line.values or {}).get(self._columns.key)
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise RowRejected("key_invalid", "The row's key is neither a text nor a whole number.")
        key = f"{self.name}/{readable(str(value))}"
        return f"{check_key(key)}/{label}" if label else key

    def _caption(self, line: Line, key: str) -> str:
        if self._columns.templates is not None:
            return self._columns.templates.fill(key, (line.values or {}).get)
        value = (line.values or {}).get(self._columns.caption)
        if self._whole_numbers and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return _text(value, "missing_caption", "The row has no caption.").strip()

    def _image_stamps(self, line: Line, images: list[_Image]) -> Stamp | list[Stamp | None] | None:
        """One where a cell is a path, as it always was; of a row that may have several, all."""
        stamps: list[Stamp | None] = []
        for image in images:
            try:
                stamps.append(image_stamp(self._root, _path(line, image)))
            except RowRejected:
                stamps.append(None)
        return stamps if images[0].label else stamps[0]

    def _table_stamp(self) -> Stamp:
        try:
            return stamp_of(self._path)
        except OSError as error:
            raise changed(self._path) from error


def _path(line: Line, image: _Image) -> str:
    if line.values is None:
        raise RowRejected("row_invalid", _NO_ROW)
    path = _text(image.value, "missing_image", "The row names no image.")
    if not path or "\0" in path:
        raise RowRejected("missing_image", "The row names no image.")
    return os.path.normpath(path)


def _text(value: object, code: str, detail: str) -> str:
    if value is None:
        raise RowRejected(code, detail)
    if not isinstance(value, str):
        raise RowRejected("row_invalid", "The image path and the caption of a row must be texts.")
    return value


def _is_empty(value: object) -> bool:
    """Whether a cell that may name an image names none; NaN is what pandas makes of an empty one."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())
