"""NumPy's .npy form, read by its header and by ranges of rows: never whole, never a pickle. numpy only.

Ranges are read, not mapped: a mapped file that another program cuts short would kill the build with SIGBUS.
"""

import math
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from memory_builder.embeddings.block import Embeddings
from memory_builder.errors import CorpusError
from memory_builder.readers.regular_file import Stamp, read_range

MAX_EMBED_DIM = 1 << 16  # of an encoder record
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Header(NamedTuple):
    """What an .npy says of itself; `offset` is where its values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    @property
    def data_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], size: int, name: str) -> Header:
    """Read the header of an .npy and check that the values it promises are there.

    Args:
        stream: at the beginning of the .npy.
        size: bytes that the .npy has.
        name: of the array, for messages.

    Raises:
        CorpusError: embeddings_invalid (no .npy, or objects, which only pickle could read), source_truncated.
    """
    try:
        version = npy.read_magic(stream)
        shape, fortran_order, dtype = _HEADERS[version](stream)
    except (ValueError, KeyError) as error:
        raise CorpusError("embeddings_invalid", f"{name} is not an .npy array: save it with numpy.save.") from error
    if dtype.hasobject:
        raise CorpusError(
            "embeddings_invalid",
            f"{name} is an array of objects, which only pickle can read, and pickle is never read. Save texts as "
            "np.array(texts, dtype=str) and embeddings as float16 or float32.",
        )
    header = Header(shape, dtype, fortran_order, stream.tell())
    if header.offset + header.data_bytes > size:
        raise CorpusError(
            "source_truncated",
            f"{name} promises {header.data_bytes:,} bytes of values and has {max(0, size - header.offset):,}: "
            "copy or save it again.",
        )
    return header


def check_matrix(header: Header, name: str) -> None:
    """Accept an array as embeddings: (N, D) of float16 or float32.

    Raises:
        CorpusError: embeddings_invalid.
    """
    if header.dtype.kind != "f" or header.dtype.itemsize not in (2, 4):
        raise CorpusError("embeddings_invalid", f"{name} is {header.dtype}: embeddings are float16 or float32.")
    if len(header.shape) != 2 or not 1 <= header.shape[1] <= MAX_EMBED_DIM:
        raise CorpusError(
            "embeddings_invalid",
            f"{name} has the shape {header.shape}: embeddings are (N, D), a row for each image or text, D up to "
            f"{MAX_EMBED_DIM:,}.",
        )


class NpyFile:
    """An .npy file of embeddings.

    Attributes:
        path: the file.
        shape: (N, D).
        stamp: of the file when its header was read.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            CorpusError: embeddings_invalid, source_truncated, source_unreadable.
        """
        try:
            self.stamp = Stamp.of(path.stat())
            with path.open("rb") as stream:
                self._header = read_header(stream, self.stamp.size, str(path))
        except OSError as error:
            raise CorpusError("source_unreadable", f"Reading {path} failed: {error.strerror}.") from error
        check_matrix(self._header, str(path))
        if self._header.fortran_order:
            raise CorpusError(
                "embeddings_invalid",
                f"{path} is in Fortran order, so no row of it can be read alone: save np.ascontiguousarray(array).",
            )
        self.path = path
        self.shape = (self._header.shape[0], self._header.shape[1])

    def rows(self, start: int, stop: int) -> Embeddings:
        """Rows `start` to `stop`: (stop - start, D), in the file's dtype.

        Raises:
            CorpusError: source_changed, source_unreadable.
        """
        embed_dim, dtype = self.shape[1], self._header.dtype
        row_bytes = embed_dim * dtype.itemsize
        data = read_range(self.path, self.stamp, self._header.offset + start * row_bytes, (stop - start) * row_bytes)
        return np.frombuffer(data, dtype=dtype).reshape(stop - start, embed_dim)
