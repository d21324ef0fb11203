"""A file of a corpus wherever it is: on a disk, or an object in a store. Imports memory.stores.

Readers hold a `Source`, and read it through this module alone. Bytes on a disk are read when they are asked for; those
of an object as the reader passes them, so that a store sees one reading from front to back.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from memory import MemoryStoreError, ObjectChanged, ObjectMissing
from memory.stores import StoredFolder, StoredObject
from memory_builder.errors import CorpusError
from memory_builder.readers.regular_file import Stamp, changed, file_inside, read_file, read_range
from memory_builder.records import RowRejected

Source = Path | StoredObject
Root = Path | StoredFolder
"""The folder of a table, in which the images are that it names."""


class Opened(Protocol):
    """An opened source, to be read from anywhere in it.

    Attributes:
        file: from its beginning on.
        stamp: as it was opened.
    """

    file: io.RawIOBase
    stamp: Stamp

    def later(self, offset: int, size: int) -> Callable[[], bytes]:
        """Bytes that are read when they are asked for, or now if this is the time; fails as `read`."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a place.

        Raises:
            CorpusError: source_changed, if the file is no longer the one that was opened; source_unreadable.
        """


@contextmanager
def opened(source: Source, stamp: Stamp | None = None) -> Iterator[Opened]:
    """Open a source; to the end it must have `stamp`, where one is given.

    Raises:
        CorpusError: source_changed, source_unreadable.
        OSError: of the disk.
    """
    with told(source):
        found: Opened = _LocalFile(source) if isinstance(source, Path) else _StoredFile(source)
        with found.file:
            if stamp is not None and found.stamp != stamp:
                raise changed(source)
            yield found
        if stamp is not None and isinstance(source, StoredObject) and stamp_of(source) != stamp:
            raise changed(source)  # not every store vouches for that while it is read


def stamp_of(source: Source) -> Stamp:
    """Size and state of a source now.

    Raises:
        CorpusError: source_changed, source_unreadable, of an object.
        OSError: of the disk.
    """
    if isinstance(source, Path):
        return Stamp.of(source.stat())
    with told(source):
        return Stamp(*source.state())


def for_arrow(source: Source) -> str | pa.PythonFile:
    """What pyarrow opens.

    Raises:
        CorpusError: source_changed, source_unreadable, of an object.
    """
    if isinstance(source, Path):
        return str(source)
    with told(source):
        return pa.PythonFile(source.open(), mode="r")


def root_of(source: Source) -> Root:
    """The folder a table lies in, links resolved."""
    return Path(os.path.realpath(source.parent)) if isinstance(source, Path) else source.folder


def image_inside(root: Root, path: str) -> Source:
    """The image that a relative path of a table names.

    Raises:
        RowRejected: missing_image, path_outside.
    """
    if isinstance(root, Path):
        return file_inside(root, path)
    if not path or "\0" in path:
        raise RowRejected("missing_image", "The row names no image.")
    path = os.path.normpath(path)
    if path.startswith(("/", "../")) or path in (".", ".."):
        raise RowRejected("path_outside", "The path is absolute or leads out of the table's folder.")
    return root / path


def image_stamp(root: Root, path: str) -> Stamp | None:
    """Size and state of the image that a relative path names; None where there is none."""
    try:
        image = image_inside(root, path)
        if isinstance(root, Path):
            return Stamp.of(image.lstat()) if isinstance(image, Path) else None
        with told(root):
            state = root.objects().get(str(image).removeprefix(f"{root}/"))
        return None if state is None else Stamp(*state)
    except (RowRejected, OSError):
        return None


def read_image(image: Source, limit: int) -> bytes:
    """An image's bytes, cut one byte beyond `limit`.

    Raises:
        RowRejected, CorpusError: as regular_file.read_file.
    """
    if isinstance(image, Path):
        return read_file(image, limit)
    try:
        with told(image):
            return image.read(0, limit + 1)
    except CorpusError as error:
        if error.code == "source_changed":
            raise RowRejected("missing_image", "The image is not there.") from None
        raise


class _LocalFile:
    """A file on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        opened = io.FileIO(path)
        self.file: io.RawIOBase = opened
        self.stamp = Stamp.of(os.fstat(opened.fileno()))

    def later(self, offset: int, size: int) -> Callable[[], bytes]:
        return partial(read_range, self._path, self.stamp, offset, size)

    def read(self, offset: int, size: int) -> bytes:
        return read_range(self._path, self.stamp, offset, size)


class _StoredFile:
    """An object in a store."""

    def __init__(self, source: StoredObject) -> None:
        self._source = source
        self._reader = source.open()
        self.file: io.RawIOBase = self._reader
        self.stamp = Stamp(*self._reader.state)

    def later(self, offset: int, size: int) -> Callable[[], bytes]:
        return partial(bytes, self.read(offset, size))

    def read(self, offset: int, size: int) -> bytes:
        data = self._reader.read_at(offset, size)
        if len(data) < size:
            raise changed(self._source)
        return data


@contextmanager
def told(source: Source | StoredFolder) -> Iterator[None]:
    """What is read of a store within fails as a source does.

    Raises:
        CorpusError: source_changed, source_unreadable.
    """
    try:
        yield
    except (ObjectMissing, ObjectChanged) as error:
        raise changed(source) from error
    except MemoryStoreError as error:
        raise CorpusError("source_unreadable", f"{error}. What is done stays done.") from error
