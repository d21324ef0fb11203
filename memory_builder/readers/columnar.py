"""Rows of Arrow record batches, as Parquet and Arrow files give them: an image in the cell, or a path to one. pyarrow.

An image is a cell of bytes, a text that is a path, or a struct of `bytes` and `path`, as Hugging Face datasets have it;
a cell may be a list of images, and several columns may hold them. Each image makes a pair with its row's caption.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from memory_builder.errors import CorpusError
from memory_builder.readers.columns import Columns, Part, Usual, image_label, parts
from memory_builder.readers.columns import choose_columns as choose
from memory_builder.readers.reader import MAX_CAPTION_BYTES, ReaderOptions
from memory_builder.readers.regular_file import Stamp, stem_of
from memory_builder.readers.source import Root, Source, image_inside, image_stamp, read_image
from memory_builder.records import Record, Rejected, Row, RowRejected, check_key, readable, told_key

_USUAL = Usual(
    ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "path", "file", "filename", "file_name"),
    ("caption", "text", "title", "txt"),
)
_PLAIN = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
STEP_ROWS = 32  # decoded from a file at once: images are large, and a bomb may be


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
    columns = choose(schema.names, path, options, _USUAL)
    for name in (*columns.images, *columns.caption_names, columns.key or ""):
        if schema.names.count(name) > 1:
            raise CorpusError("table_columns", f"{path} has the column {name!r} twice: save it with one of them.")
    for image in columns.images:
        kind = _single(schema.field(image).type)
        if not (_is_bytes(kind) or is_text(kind) or _is_image_struct(kind)):
            kind, expected = schema.field(image).type, "bytes, paths, or structs of bytes and path, or lists of these"
            raise _wrong(path, "image", image, kind, expected)
    if len({is_text(_single(schema.field(image).type)) for image in columns.images}) > 1:
        raise CorpusError(
            "table_columns", f"{path}: some of the columns of images hold paths, and others images: build from each."
        )
    for caption in columns.caption_names:
        kind = schema.field(caption).type
        if columns.templates is None and not is_text(kind):
            raise _wrong(path, "caption", caption, kind, "texts, one a row")
        if not (is_text(kind) or _is_number(kind)):
            raise CorpusError(
                "table_columns",
                f"{path}: the column {caption!r} holds {kind}, and captions are made of texts or numbers.",
            )
    if columns.key and not (is_text(kind := schema.field(columns.key).type) or pa.types.is_integer(kind)):
        raise _wrong(path, "key", columns.key, kind, "texts or whole numbers")
    return columns


def names_paths(schema: pa.Schema, columns: Columns) -> bool:
    """Whether the images are files beside the table."""
    return is_text(_single(schema.field(columns.images[0]).type))


def row_parts(
    batches: Iterable[tuple[int, pa.RecordBatch]], schema: pa.Schema, columns: Columns, rows: range, unit_rows: int
) -> list[Part]:
    """Rows of a file, cut into parts of at most `unit_rows` pairs.

    Args:
        batches: those of `rows`, with the columns of images; read only where a row may have several images.
    """
    if len(columns.images) == 1 and not _is_list(schema.field(columns.images[0]).type):
        return [Part(rows.start, 0, rows.stop, len(rows))]
    counts = [len(images) for _, batch in batches for images in _images(batch, columns)]
    return [part.after(rows.start) for part in parts(counts, unit_rows)]


def path_stamps(batch: pa.RecordBatch, columns: Columns, place: Place) -> list[Stamp | None]:
    """Size and time of change of the files that the rows name; None where there is none."""
    return [image_stamp(place.root, image.path or "") for images in _images(batch, columns) for image in images]


def rows_of(batch: pa.RecordBatch, columns: Columns, place: Place, first: int) -> Iterator[Row]:
    """The pairs of a batch's rows, of which the first has the number `first` in its file."""
    caption_of = _captions(batch, columns)
    keys = texts(batch.column(columns.key)) if columns.key else [None] * batch.num_rows
    for row, (images, key) in enumerate(zip(_images(batch, columns), keys, strict=True)):
        for image in images:
            yield _row(image, partial(caption_of, row), _Naming(place, columns, key, first + row))


def checked(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Some columns of a batch whose bytes nobody vouches for: offsets that lead elsewhere would crash the process.

    Raises:
        pa.ArrowInvalid: the batch is damaged.
    """
    batch = batch.select(list(columns))
    batch.validate()
    for column in batch.columns:
        # Not as a text: one that is not UTF-8 costs its row, not the file.
        plain = _plain(column.type)
        (column if plain == column.type else column.view(plain)).validate(full=True)
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
    """What a cell, or an element of its list, says: bytes, else a path, else nothing."""

    data: bytes | None
    path: str | None
    label: str = ""  # what tells it from the others of its row

    @property
    def is_there(self) -> bool:
        return self.data is not None or bool(self.path)


_NO_IMAGE = _Image(None, None)


class _Naming(NamedTuple):
    """What a row is called."""

    place: Place
    columns: Columns
    key: str | None
    number: int

    def own(self, image: _Image) -> str:
        """The key of an image; without a key column, its path or the row's number."""
        if self.columns.key and self.key is None:
            raise RowRejected("key_invalid", "The row has no key.")
        if image.data is None and not self.columns.key:
            return f"{self.place.prefix}/{readable(stem_of(image.path or ''))}"
        key = f"{self.place.prefix}/{self.number if self.key is None else readable(self.key)}"
        return f"{check_key(key)}/{image.label}" if image.label else key


def _row(image: _Image, caption_of: Callable[[str], str | None], naming: _Naming) -> Row:
    key = f"{naming.place.prefix}/row {naming.number}"
    source = f"{naming.place.file} row {naming.number}"
    if image.label:
        key, source = f"{key}/{image.label}", f"{source}, {image.label}"
    try:
        if not image.is_there:
            raise RowRejected("missing_image", "The row has neither an image nor the path of one.")
        own = naming.own(image)
        key = told_key(own, key)
        caption = caption_of(own)
        if caption is None:
            raise RowRejected("missing_caption", "The row has no caption.")
        if len(caption) > MAX_CAPTION_BYTES:
            raise RowRejected("text_too_long", "The caption is longer than any caption may be.")
        place = naming.place
        if image.data is not None:
            read = partial(bytes, image.data)
        else:
            read = partial(read_image, image_inside(place.root, image.path or ""), place.max_image_bytes)
        return Record(check_key(own), caption.strip(), read, source)
    except RowRejected as rejected:
        return Rejected(key, rejected.code, rejected.detail, source)


def _captions(batch: pa.RecordBatch, columns: Columns) -> Callable[[int, str], str | None]:
    """What gives the caption of a row of the batch for the pair of a key, None where there is none.

    Raises as CaptionTemplates.fill.
    """
    if columns.templates is None:
        captions = texts(batch.column(columns.caption))
        return lambda row, _key: captions[row]
    values = {name: _values(batch.column(name)) for name in columns.templates.names}
    fill = columns.templates.fill
    return lambda row, key: fill(key, lambda name: values[name][row])


def _values(column: pa.Array) -> Sequence[object]:
    """A column of texts or numbers."""
    if is_text(column.type):
        return texts(column)
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        # Digit by digit as they were meant: as a double, 0.1 is 0.10000000149011612.
        return [None if value is None else float(value) for value in column.cast(pa.string()).to_pylist()]
    return list(column.to_pylist())


def _images(batch: pa.RecordBatch, columns: Columns) -> list[list[_Image]]:
    """For each row the images that are there; one that is not, if none is."""
    cells = [_cells(batch.column(name), label) for name, label in columns.labels.items()]
    rows = [[image for cell in row for image in cell if image.is_there] for row in zip(*cells, strict=True)]
    return [images or [_NO_IMAGE] for images in rows]


def _cells(column: pa.Array, label: str) -> list[list[_Image]]:
    """The images of each cell of a column, whether they are there or not."""
    if not _is_list(column.type):
        return [[image._replace(label=label)] for image in _single_images(column)]
    images = iter(_single_images(column.flatten()))
    lengths = (length or 0 for length in column.value_lengths().to_pylist())  # a null is a list of nothing
    return [
        [next(images)._replace(label=image_label(label, position)) for position in range(length)] for length in lengths
    ]


def _single_images(column: pa.Array) -> list[_Image]:
    if _is_image_struct(column.type):
        names = [field.name for field in column.type]
        data = column.field("bytes").to_pylist()
        paths = texts(column.field("path")) if "path" in names else [None] * len(data)
        # A null struct has children of its own, which do not count.
        valid = column.is_valid().to_pylist()
        return [_Image(*cell) if real else _NO_IMAGE for *cell, real in zip(data, paths, valid, strict=True)]
    if is_text(column.type):
        return [_Image(None, path) for path in texts(column)]
    return [_Image(data, None) for data in column.to_pylist()]


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type with bytes where it has texts."""
    if _is_list(kind):
        return (pa.large_list if pa.types.is_large_list(kind) else pa.list_)(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    return _PLAIN.get(kind, kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _single(kind: pa.DataType) -> pa.DataType:
    """What one image is, in a column of this type."""
    return kind.value_type if _is_list(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


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


def _wrong(path: Source, what: str, name: str, kind: pa.DataType, expected: str) -> CorpusError:
    return CorpusError(
        "table_columns",
        f"{path}: the column {name!r} holds {kind}, and {what}s are {expected}. Name another with --{what}-column.",
    )
