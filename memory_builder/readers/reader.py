"""What every reader offers: pieces of a source, and the rows of a piece. Imports template_turns.py.

A row is a pair: where a row of a table holds several images, it is as many rows here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from memory_builder.template_turns import CaptionTemplates

# Pillow tells the format by its first bytes; the extension only says that a file is meant as an image, so
# formats that the encoder refuses are listed too: their rows are rejected with the code that the service
# gives.
IMAGE_EXTENSIONS = frozenset(
    {
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "webp",
        "gif",
        "avif",
        "bmp",
        "tif",
        "tiff",
        "heic",
        "heif",
        "jxl",
        "svg",
    }
)
MAX_CAPTION_BYTES = 64 << 10  # far above any limit of characters

Read_co = TypeVar("Read_co", covariant=True)


@dataclass(frozen=True)
class ReaderOptions:
    """How sources are read; those that a format uses are part of its units' identity.

    Attributes:
        max_image_bytes: no more than one byte beyond this is ever read of an image.
        image_columns, caption_column, key_column: of tables, as in BuildConfig.
        folder_templates: of folders, as in BuildConfig, each once.
        caption_templates: of tables, taken apart.
        whole_numbers: of a task's table, whose labels may be numbers: one stands for its digits. A memory's captions
            are texts.
    """

    max_image_bytes: int = 20 << 20
    image_columns: tuple[str, ...] = ()
    caption_column: str | None = None
    key_column: str | None = None
    folder_templates: tuple[str, ...] = ()
    caption_templates: CaptionTemplates | None = None
    whole_numbers: bool = False


@dataclass(frozen=True)
class Piece:
    """A range of a source: what one unit covers.

    Attributes:
        rows: rows in it, rejected ones included.
        fingerprint: SHA-256 over the range and the state of what it covers (relative names, sizes, times of
            change).
        place: where it lies, in the reader's own terms.
    """

    rows: int
    fingerprint: str
    place: Any = field(repr=False)


class Reader(Protocol[Read_co]):
    """A source: one folder, one table or one tar, read as `Row`s; or embeddings, read as blocks of many rows."""

    name: str
    """First part of all its keys."""
    kind: str
    """folder, webdataset, table, parquet, arrow or embeddings."""
    ignored: int
    """Files or members that `pieces` saw and that belong to no row; complete when its iterator is."""
    example_ignored: str
    """One of them, for messages; empty if there are none."""

    def options(self) -> Mapping[str, str]:
        """Those options that change what a row is."""

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """Scan the source, in a fixed order, into ranges of at most `unit_rows` rows.

        Raises:
            CorpusError: if the source is damaged or cannot be read.
        """

    def read(self, piece: Piece) -> Iterator[Read_co]:
        """The rows of a piece, in order: exactly `piece.rows` of them.

        Raises:
            CorpusError: source_changed, if the source is no longer what was scanned.
        """
