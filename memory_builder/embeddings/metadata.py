"""What clip-retrieval writes beside its embeddings: a Parquet file with captions and keys. pyarrow.

Rows are read in order, a batch at a time: a file is one row group, however large.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memory_builder.errors import CorpusError
from memory_builder.readers.columnar import is_text, texts
from memory_builder.readers.reader import ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed
from memory_builder.records import readable

CAPTION_COLUMN = "caption"
KEY_COLUMNS = ("key", "image_path")  # in order of preference
SOURCE_COLUMN = "url"
_BATCH_ROWS = 4096


class Described(NamedTuple):
    """A row of the file: texts may hold surrogates where the file is not UTF-8; None is a null or no column."""

    caption: str | None
    key: str | None
    source: str | None


class MetadataFile:
    """One Parquet file.

    Attributes:
        path: the file.
        rows: how many it has.
        stamp: of the file when it was opened.
        has_keys: whether it has a column of keys.
    """

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        """Read its footer.

        Raises:
            CorpusError: table_invalid, table_columns, source_unreadable.
        """
        self.path = path
        try:
            self.stamp = Stamp.of(path.stat())
            with pq.ParquetFile(path) as file:
                self.rows: int = file.metadata.num_rows
                self._groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
                schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self._caption = self._column(schema, options.caption_column or CAPTION_COLUMN, "caption")
        key = options.key_column or next((name for name in KEY_COLUMNS if name in schema.names), "")
        self._key = self._column(schema, key, "key") if key else ""
        has_source = SOURCE_COLUMN in schema.names and is_text(schema.field(SOURCE_COLUMN).type)
        self._source = SOURCE_COLUMN if has_source else ""
        self.has_keys = bool(self._key)
        self._next = -1  # where the batches that are open go on
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, start: int, stop: int) -> list[Described]:
        """Rows `start` to `stop`; going on where the last read ended costs nothing twice.

        Raises:
            CorpusError: source_changed, table_invalid.
        """
        try:
            if Stamp.of(self.path.stat()) != self.stamp:
                raise changed(self.path)
            if start != self._next or self._rest is None:
                self._seek(start)
            found: list[Described] = []
            while len(found) < stop - start:
                found += self._described(self._take(stop - start - len(found)))
        except StopIteration:
            raise changed(self.path) from None
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self._next = stop
        return found

    def _seek(self, start: int) -> None:
        """Open the file at the row group that holds `start`, and leave out the rows before it."""
        group, skip = 0, start
        while skip >= self._groups[group]:
            skip -= self._groups[group]
            group += 1
        columns = list(filter(None, dict.fromkeys((self._caption, self._key, self._source))))
        groups = list(range(group, len(self._groups)))
        self._batches = pq.ParquetFile(self.path).iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns)
        self._rest = next(self._batches)
        while skip:
            skip -= self._take(skip).num_rows

    def _take(self, most: int) -> pa.RecordBatch:
        """The next rows, at least one and at most `most`."""
        while not self._rest:
            self._rest = next(self._batches)
        taken, self._rest = self._rest.slice(0, most), self._rest.slice(most)
        return taken

    def _described(self, batch: pa.RecordBatch) -> Iterator[Described]:
        columns = [
            texts(batch.column(name)) if name else [None] * batch.num_rows
            for name in (self._caption, self._key, self._source)
        ]
        return map(Described, *columns)

    def _column(self, schema: pa.Schema, name: str, what: str) -> str:
        if name not in schema.names:
            told = ", ".join(map(readable, schema.names[:20])) or "none"
            raise CorpusError(
                "table_columns",
                f"{self.path} has no column {name!r}: name the one that holds the {what}s with --{what}-column. "
                f"Its columns: {told}.",
            )
        kind = schema.field(name).type
        if not is_text(kind) and not (what == "key" and pa.types.is_integer(kind)):
            raise CorpusError(
                "table_columns",
                f"{self.path}: the column {name!r} holds {kind}, and {what}s are texts. Name another with "
                f"--{what}-column.",
            )
        return name

    def _unreadable(self, error: Exception) -> CorpusError:
        return CorpusError(
            "table_invalid",
            f"{self.path} cannot be read as Parquet ({error}). Copy or write it again.",
        )
