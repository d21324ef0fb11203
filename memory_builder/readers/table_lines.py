"""The rows of a CSV, TSV or JSON-lines file as parsed values, with the place and the bytes of each.

A row that cannot be parsed is a row; a file whose rows cannot be told apart is an
error.
"""

import codecs
import csv
import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.source import Source, opened

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
MAX_LINE_BYTES = 16 << 20
_QUOTED = re.compile(r'"[^"]*("|$)')
_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)  # a line above the header, by which Excel goes
_FOREIGN_SHARE = 0.05
_JUDGED_LINES = 1000  # an encoding shows in the first names and captions, and a table may have 10^8


class Line(NamedTuple):
    """One row: where it begins, its bytes, and its values by column; None if it cannot be parsed."""

    begin: int
    data: bytes
    values: Mapping[str, Any] | None


class Head(NamedTuple):
    """The columns, where the first row begins, and what is between fields: a comma, a semicolon (as Excel writes it
    where numbers have a comma), a tab, or what a line `sep=` above the header says; empty in JSON lines."""

    columns: list[str]
    begin: int
    delimiter: str


class _Text(Iterator[str]):
    """The lines of an open file as text; `begin` and `data` say what was handed out since `mark`."""

    def __init__(self, path: Source, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.mark()

    def __next__(self) -> str:
        first = not self._file.tell()
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise CorpusError("table_invalid", f"{self._path} has a line of more than {MAX_LINE_BYTES:,} bytes.")
        if not line:
            raise StopIteration
        self.data += line
        text = line.decode("utf-8", "surrogateescape")  # what is not UTF-8 is found where a caption is checked
        return text.removeprefix("\ufeff") if first else text

    def mark(self) -> None:
        self.begin, self.data = self._file.tell(), b""

    def keep_line(self, start: int) -> None:
        """Of `data`, take back what follows the line that begins at `start`."""
        end = self.data.find(b"\n", start) + 1
        if 0 < end < len(self.data):
            self.data = self.data[:end]
            self._file.seek(self.begin + end)


def columns(path: Source) -> Head:
    """The columns of a header, or in JSON lines the names in the first object.

    Raises:
        CorpusError: table_invalid (also for a table that is not UTF-8), source_unreadable.
    """
    with _opened(path) as file:
        _check_encoding(path, file)
        text = _Text(path, file)
        if path.suffix.lower() in JSON_LINES:
            objects = (values for line in text if (values := _parsed(line)))
            return Head(list(next(objects, {})), 0, "")
        first = next(text, "")
        if said := _SEPARATOR.fullmatch(first):
            delimiter = said[1]
        else:
            delimiter = _delimiter(path, first)
            file.seek(0)
        try:
            header = next(csv.reader(text, delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise CorpusError("table_invalid", f"The header of {path} is no row of a table: {error}.") from error
        named = [name for name in header if name.strip()]  # Excel writes empty columns behind the table, without names
        if len(set(named)) < len(named):
            raise CorpusError("table_invalid", f"The header of {path} has a column twice: {', '.join(header)}.")
        return Head(header, file.tell(), delimiter)


def later_columns(path: Source, head: Head) -> list[str]:
    """Names that objects of JSON lines have and the first has not: some programs leave out what is empty.

    Raises:
        CorpusError: table_invalid, source_unreadable.
    """
    if path.suffix.lower() not in JSON_LINES:
        return []
    with _opened(path) as file:
        objects = (_parsed(line) or {} for line in islice(_Text(path, file), _JUDGED_LINES))
        return [name for name in dict.fromkeys(name for one in objects for name in one) if name not in head.columns]


def lines(path: Source, begin: int, head: Head) -> Iterator[Line]:
    """The rows from `begin` on; blank lines are none.

    Raises:
        CorpusError: table_invalid, source_unreadable.
    """
    with _opened(path) as file:
        file.seek(begin)
        text = _Text(path, file)
        is_json = path.suffix.lower() in JSON_LINES
        for values in _objects(text) if is_json else _fields(text, head):
            yield Line(text.begin, text.data, values)
            text.mark()


def _objects(text: _Text) -> Iterator[Mapping[str, Any] | None]:
    for line in text:
        if line.strip():
            yield _parsed(line)


def _fields(text: _Text, head: Head) -> Iterator[Mapping[str, Any] | None]:
    header = head.columns
    reader = csv.reader(text, delimiter=head.delimiter, strict=True)
    while True:
        start = len(text.data)  # blank lines before a row belong to it
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # A quote that nobody closes takes the rows behind it for its own, up to the next quote or csv's limit of a
            # field: the fault is its line's alone.
            text.keep_line(start)
            yield None
            reader = csv.reader(text, delimiter=head.delimiter, strict=True)
            continue
        if fields:
            yield dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _delimiter(path: Source, header: str) -> str:
    """What a header has most of, outside of quotes: the extension's own if that is none or as many."""
    usual = DELIMITERS[path.suffix.lower()]
    bare = _QUOTED.sub("", header)
    if usual == "\t" in bare:  # names of columns have commas and semicolons, and no tabs
        return usual
    return max((usual, ",", ";", "\t"), key=bare.count)


def _check_encoding(path: Source, file: BinaryIO) -> None:
    """Refuse a table in another encoding: its header shows it, or one row of twenty and no other has more than ASCII.
    A row of bytes that are not UTF-8 among others is that row's fault alone.

    Raises:
        CorpusError: table_invalid.
    """
    foreign: list[int] = []
    encoded, number = False, 0  # whether a line has more than ASCII, and is UTF-8
    for number, line in enumerate(islice(iter(lambda: file.readline(MAX_LINE_BYTES), b""), _JUDGED_LINES), start=1):
        try:
            line.decode()
            encoded = encoded or not line.isascii()
        except UnicodeDecodeError:
            foreign.append(number)
    in_header = foreign[:1] == [1] and path.suffix.lower() not in JSON_LINES
    if in_header or (not encoded and len(foreign) > max(1, _FOREIGN_SHARE * number)):
        name, made = shlex.quote(path.name), shlex.quote(f"utf8-{path.name}")
        file.seek(0)
        encoding = "UTF-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "WINDOWS-1252"
        raise CorpusError(
            "table_invalid",
            f"{path} is not UTF-8 (line {foreign[0]:,}), so names and captions cannot be read. Save it as UTF-8 (in "
            f"Excel: CSV UTF-8), or convert it: iconv -f {encoding} -t UTF-8 {name} > {made}",
        )
    file.seek(0)


@contextmanager
def _opened(path: Source) -> Iterator[BinaryIO]:
    try:
        with opened(path) as found, io.BufferedReader(found.file) as file:
            yield file
    except OSError as error:
        raise CorpusError("source_unreadable", f"{path} cannot be read: {error}") from error
