"""Rows of Arrow record batches, as Parquet and Arrow files give them: an image in the cell, or a path to one. pyarrow.

An image is a cell of bytes, a text that is a path, or a struct of `bytes` and `path`, as Hugging Face datasets have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from memory_builder.errors import CorpusError
from memory_builder.readers.reader import MAX_CAPTION_BYTES, ReaderOptions
from memory_builder.readers.regular_file import Stamp, stem_of
from memory_builder.readers.source import Root, Source, image_inside, image_stamp, read_image
from memory_builder.records import Record, Rejected, Row, RowRejected, check_key, readable

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "path", "file", "filename")
CAPTION_COLUMNS = ("caption", "text", "title", "txt")
_PLAIN = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
STEP_ROWS = 32  # decoded from a file at once: images are large, and a bomb may be


class Columns(NamedTuple):
    """Names of the columns that make a row; `key` is empty if keys are made of paths or row numbers."""

    image: str
    caption: str
    key: str

    @property
    def names(self) -> list[str]:
        """All, each once."""
        return list(dict.fromkeys(filter(None, self)))

    def options(self) -> Mapping[str, str]:
        """As in Reader."""
        return {"image_column": self.image, "caption_column": self.caption, "key_column": self.key}


@dataclass(frozen=True)
class Place:
    """Where the rows of a file belong.

    Attributes:
        prefix: of their keys.
        file: name of the file, for people.
        root: folder in which the paths of images lie, links resolved.
        max_image_bytes: as in ReaderOptions.
    """

    prefix: str
    file: str
    root: Root
    max_image_bytes: int


def choose_columns(schema: pa.Schema, path: Source, options: ReaderOptions) -> Columns:
    """Find the columns in a file's schema.

    Raises:
        CorpusError: table_columns.
    """
    image = _choose(schema, path, "image", options.image_column, IMAGE_COLUMNS)
    caption = _choose(schema, path, "caption", options.caption_column, CAPTION_COLUMNS)
    key = _choose(schema, path, "key", options.key_column, ()) if options.key_column else ""
    if not (_is_bytes(kind := schema.field(image).type) or is_text(kind) or _is_image_struct(kind)):
        raise _wrong(path, "image", image, kind, "bytes, paths, or structs of bytes and path")
    if not is_text(kind := schema.field(caption).type):
        raise _wrong(path, "caption", caption, kind, "texts, one a row")
    if key and not (is_text(kind := schema.field(key).type) or pa.types.is_integer(kind)):
        raise _wrong(path, "key", key, kind, "texts or whole numbers")
    return Columns(image, caption, key)


def names_paths(schema: pa.Schema, columns: Columns) -> bool:
    """Whether the images are files beside the table."""
    return is_text(schema.field(columns.image).type)


def path_stamps(batch: pa.RecordBatch, columns: Columns, place: Place) -> list[Stamp | None]:
    """Size and time of change of the file that each row names; None where there is none."""
    return [image_stamp(place.root, path or "") for path in texts(batch.column(columns.image))]


def rows_of(batch: pa.RecordBatch, columns: Columns, place: Place, first: int) -> Iterator[Row]:
    """The rows of a batch, of which the first has the number `first` in its file."""
    captions = texts(batch.column(columns.caption))
    keys = texts(batch.column(columns.key)) if columns.key else [None] * batch.num_rows
    images = _images(batch.column(columns.image))
    for number, (image, caption, key) in enumerate(zip(images, captions, keys, strict=True), first):
        yield _row(image, caption, _Naming(place, columns, key, number))


def checked(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Some columns of a batch whose bytes nobody vouches for: offsets that lead elsewhere would crash the process.

    Raises:
        pa.ArrowInvalid: the batch is damaged.
    """
    batch = batch.select(list(columns))
    batch.validate()
    for column in batch.columns:
        fields = (
            [column.field(n) for n in range(column.type.num_fields)] if pa.types.is_struct(column.type) else [column]
        )
        for field in fields:
            # Not as a text: one that is not UTF-8 costs its row, not the file.
            plain = field.view(_PLAIN[field.type]) if field.type in _PLAIN else field
            plain.validate(full=True)
    return batch


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def texts(column: pa.Array) -> list[str | None]:
    """A column of texts or whole numbers; bytes that are not UTF-8 become lone surrogates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    # As bytes: Parquet does not promise that its texts are UTF-8, and one bad row must not stop the build.
    values = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


class _Image(NamedTuple):
    """What a cell says: bytes, else a path, else nothing."""

    data: bytes | None
    path: str | None


class _Naming(NamedTuple):
    """What a row is called."""

    place: Place
    columns: Columns
    key: str | None
    number: int

    def own(self, path: str | None) -> str:
        """The row's key; without a key column, the path of its image or its number."""
        if self.columns.key:
            if self.key is None:
                raise RowRejected("key_invalid", "The row has no key.")
            return f"{self.place.prefix}/{readable(self.key)}"
        return f"{self.place.prefix}/{readable(stem_of(path)) if path else self.number}"


def _row(image: _Image, caption: str | None, naming: _Naming) -> Row:
    key = f"{naming.place.prefix}/row {naming.number}"
    source = f"{naming.place.file} row {naming.number}"
    try:
        if image.data is None and not image.path:
            raise RowRejected("missing_image", "The row has neither an image nor the path of one.")
        key = naming.own(image.path if image.data is None else None)
        if caption is None:
            raise RowRejected("missing_caption", "The row has no caption.")
        if len(caption) > MAX_CAPTION_BYTES:
            raise RowRejected("text_too_long", "The caption is longer than any caption may be.")
        place = naming.place
        if image.data is not None:
            read = partial(bytes, image.data)
        else:
            read = partial(read_image, image_inside(place.root, image.path or ""), place.max_image_bytes)
        return Record(check_key(key), caption.strip(), read, source)
    except RowRejected as rejected:
        return Rejected(key, rejected.code, rejected.detail, source)


def _images(column: pa.Array) -> list[_Image]:
    if _is_image_struct(column.type):
        names = [field.name for field in column.type]
        data = column.field("bytes").to_pylist()
        paths = texts(column.field("path")) if "path" in names else [None] * len(data)
        # A null struct has children of its own, which do not count.
        valid = column.is_valid().to_pylist()
        return [_Image(*cell) if real else _Image(None, None) for *cell, real in zip(data, paths, valid, strict=True)]
    if is_text(column.type):
        return [_Image(None, path) for path in texts(column)]
    return [_Image(data, None) for data in column.to_pylist()]


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_image_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    return "bytes" in fields and _is_bytes(fields["bytes"]) and is_text(fields.get("path", pa.string()))


def _choose(schema: pa.Schema, path: Source, what: str, wanted: str | None, usual: Sequence[str]) -> str:
    if wanted is not None:
        if wanted in schema.names:
            return wanted
        expected = f"no column {wanted!r}"
    else:
        by_name: dict[str, str] = {name.strip().lower(): name for name in reversed(schema.names)}
        for name in usual:
            if name in by_name:
                return by_name[name]
        expected = f"none of the columns {', '.join(usual)}: name it with --{what}-column"
    found = ", ".join(readable(name) for name in schema.names[:20]) or "none"
    raise CorpusError("table_columns", f"{path} has {expected}. Its columns: {found}.")


def _wrong(path: Source, what: str, name: str, kind: pa.DataType, expected: str) -> CorpusError:
    return CorpusError(
        "table_columns",
        f"{path}: the column {name!r} holds {kind}, and {what}s are {expected}. Name another with --{what}-column.",
    )
