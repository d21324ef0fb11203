"""Rows on their way into a memory, and the columns an item has. numpy and pyarrow; no file is opened here.

Shapes: N rows, D embedding dimension. A row is one image-text pair.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memory.errors import RowsInvalid
from memory.neighbours import MODALITIES, Modality

ITEMS_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),  # hex
        pa.field("thumbnail", pa.binary(), nullable=True),
    ]
)
# fp16 moves a component by at most 2**-11 of itself, and so does it to the norm; four times that is no
# rounding.
NORM_TOLERANCE: Final = 2e-3
BLOCK_ROWS: Final = 16_384  # rows per copy, per check, and per Arrow record batch


@dataclass(frozen=True)
class Rows:
    """Some image-text pairs: embeddings of both sides and what is said about them, row by row.

    Attributes:
        image: (N, D) float16, unit norm; may be memory-mapped.
        text: (N, D) float16, unit norm; may be memory-mapped.
        items: N rows with the columns of `ITEMS_SCHEMA`.
    """

    image: NDArray[np.float16]
    text: NDArray[np.float16]
    items: pa.Table

    def side(self, modality: Modality) -> NDArray[np.float16]:
        """(N, D) float16 of one modality."""
        return self.image if modality == "image" else self.text


def check_forms(parts: Sequence[Rows]) -> tuple[int, int]:
    """Check shapes, dtypes and columns without reading the rows.

    Returns:
        (rows of all parts, D).

    Raises:
        RowsInvalid: naming the part.
    """
    if not parts or not all(isinstance(part, Rows) for part in parts):
        raise RowsInvalid("a segment needs at least one part of rows")
    embed_dim = parts[0].image.shape[-1] if parts[0].image.ndim else 0
    for position, part in enumerate(parts):
        for modality in MODALITIES:
            side = part.side(modality)
            if side.dtype != np.float16 or side.shape != (part.items.num_rows, embed_dim) or not embed_dim:
                raise RowsInvalid(
                    f"part {position}: {modality} rows are {side.dtype}{list(side.shape)}, "
                    f"expected float16[{part.items.num_rows}, {embed_dim}] to match items and part 0"
                )
        if not part.items.schema.equals(ITEMS_SCHEMA):
            raise RowsInvalid(f"part {position}: item columns are not those of memory.ITEMS_SCHEMA")
        for name in ITEMS_SCHEMA.names:
            if not ITEMS_SCHEMA.field(name).nullable and part.items.column(name).null_count:
                raise RowsInvalid(f"part {position}: column {name!r} holds nulls")
    rows = sum(part.items.num_rows for part in parts)
    if rows == 0:
        raise RowsInvalid("a segment needs at least one row")
    return rows, embed_dim


def embedding_blocks(parts: Sequence[Rows], modality: Modality) -> Iterator[NDArray[np.float16]]:
    """Copy the rows of one side block by block, refusing what no search could find again.

    Yields:
        (≤ BLOCK_ROWS, D) float16, C-contiguous.

    Raises:
        RowsInvalid: a row is not finite or not unit norm.
    """
    for position, part in enumerate(parts):
        side = part.side(modality)
        for start in range(0, len(side), BLOCK_ROWS):
            block = np.ascontiguousarray(side[start : start + BLOCK_ROWS])
            norms = np.linalg.norm(block.astype(np.float32), axis=1)
            # written so that NaN fails it
            wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))
            if wrong.size:
                row = int(wrong[0])
                raise RowsInvalid(
                    f"part {position}, {modality} row {start + row}: its norm is {norms[row]}, expected 1. "
                    "Normalise in float32 before casting to float16; leave rows with NaN out."
                )
            yield block


def item_batches(parts: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
    """Cut the items anew into batches of exactly BLOCK_ROWS rows (the last may be shorter).

    The batches, and so the file's bytes, depend on the rows alone: not on how they came in parts, slices or
    chunks.
    """
    waiting: list[pa.Table] = []
    num_waiting = 0
    for part in parts:
        # thumbnails make items wide: never hold more than a block and a bit
        for start in range(0, part.items.num_rows, BLOCK_ROWS):
            piece = part.items.slice(start, BLOCK_ROWS)
            waiting.append(piece)
            num_waiting += piece.num_rows
            if num_waiting >= BLOCK_ROWS:
                table = pa.concat_tables(waiting)
                yield _canonical_batch(table.slice(0, BLOCK_ROWS))
                waiting, num_waiting = [table.slice(BLOCK_ROWS)], num_waiting - BLOCK_ROWS
    if num_waiting:
        yield _canonical_batch(pa.concat_tables(waiting))


def _canonical_batch(table: pa.Table) -> pa.RecordBatch:
    """One batch of fresh buffers: offsets from 0, and no bytes kept under nulls. A column at a time, copied once."""
    columns = [
        pa.concat_arrays([_without_hidden_bytes(chunk) for chunk in column.chunks]) for column in table.itercolumns()
    ]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _without_hidden_bytes(chunk: pa.Array) -> pa.Array:
    return pc.take(chunk, pa.array(np.arange(len(chunk)))) if chunk.null_count else chunk


def storable(keys: Iterable[str]) -> list[str]:
    """Those that can be stored keys; what is no Unicode, as a command line may have it, cannot."""
    return [key for key in keys if not any("\ud800" <= letter <= "\udfff" for letter in key)]
