"""The rows of a CSV, TSV or JSON-lines file as parsed values, with the place and the bytes of each.

A row that cannot be parsed is a row; a file whose rows cannot be told apart is an
error.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.source import Source, opened

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
MAX_LINE_BYTES = 16 << 20


class Line(NamedTuple):
    """One row: where it begins, its bytes, and its values by column; None if it cannot be parsed."""

    begin: int
    data: bytes
    values: Mapping[str, Any] | None


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


def columns(path: Source) -> tuple[list[str], int]:
    """The columns, and where the first row begins: a header, or in JSON lines the names in the first object.

    Raises:
        CorpusError: table_invalid, source_unreadable.
    """
    with _opened(path) as file:
        text = _Text(path, file)
        if path.suffix.lower() in JSON_LINES:
            objects = (values for line in text if (values := _parsed(line)))
            return list(next(objects, {})), 0
        try:
            header = next(csv.reader(text, delimiter=_delimiter(path), strict=True), [])
        except csv.Error as error:
            raise CorpusError("table_invalid", f"The header of {path} is no row of a table: {error}.") from error
        if len(set(header)) < len(header):
            raise CorpusError("table_invalid", f"The header of {path} has a column twice: {', '.join(header)}.")
        return header, file.tell()


def lines(path: Source, begin: int, header: list[str]) -> Iterator[Line]:
    """The rows from `begin` on; blank lines are none.

    Raises:
        CorpusError: table_invalid, source_unreadable.
    """
    with _opened(path) as file:
        file.seek(begin)
        text = _Text(path, file)
        is_json = path.suffix.lower() in JSON_LINES
        for values in _objects(text) if is_json else _fields(path, text, header):
            yield Line(text.begin, text.data, values)
            text.mark()


def _objects(text: _Text) -> Iterator[Mapping[str, Any] | None]:
    for line in text:
        if line.strip():
            yield _parsed(line)


def _fields(path: Source, text: _Text, header: list[str]) -> Iterator[Mapping[str, Any] | None]:
    reader = csv.reader(text, delimiter=_delimiter(path), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None
            continue
        if fields:
            yield dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _delimiter(path: Source) -> str:
    return DELIMITERS[path.suffix.lower()]


@contextmanager
def _opened(path: Source) -> Iterator[BinaryIO]:
    try:
        with opened(path) as found, io.BufferedReader(found.file) as file:
            yield file
    except OSError as error:
        raise CorpusError("source_unreadable", f"{path} cannot be read: {error}") from error
