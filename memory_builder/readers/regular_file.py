"""Bytes of a regular file: bounded, never through a link, never of a file that changes meanwhile."""

import os
import re
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.records import RowRejected

# Without O_NONBLOCK, opening a FIFO that was put in the file's place would wait for ever.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NOT_THERE = "The image is not there."
_BACKSLASHES = " Its path has backslashes, as Windows writes them: write slashes in the table."
_NOT_FETCHED = " URLs are not fetched: download the images, as with img2dataset."
_OTHER_FORM = (
    " A file of that name is there in another form of Unicode (é as one character, or as e and an accent): rename it, "
    "as convmv --nfc does."
)
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one slash, as normpath leaves of two


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is still the one that was seen.

    Attributes:
        size: in bytes.
        state: time of change in ns; of an object in a store, its entity tag.
    """

    size: int
    state: int | str

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """The stamp of a stat."""
        return cls(status.st_size, status.st_mtime_ns)


def read_file(path: Path, limit: int) -> bytes:
    """A file's bytes, cut one byte beyond `limit`: whoever checks the limit sees that it is passed.

    Raises:
        RowRejected: member_type (a link, FIFO, folder, ...), source_changed (gone, or changed while it was
            read), source_unreadable (permissions).
        CorpusError: source_unreadable, if the disk fails: that says nothing about the row.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # opening a device can already do something
            raise _not_regular()
        handle = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise RowRejected("source_changed", "The file was gone when it was to be read.") from None
    except PermissionError:
        raise RowRejected("source_unreadable", "The file may not be read.") from None
    except OSError as error:
        raise _failed(path, error) from error
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):  # put in the file's place since
            raise _not_regular()
        wanted = min(before.st_size, limit + 1)
        data = _read_at(handle, 0, wanted)
        if len(data) < wanted or Stamp.of(os.fstat(handle)) != Stamp.of(before):
            raise RowRejected("source_changed", "The file changed while it was read.")
        return data
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        os.close(handle)


def read_range(path: Path, stamp: Stamp, offset: int, size: int) -> bytes:
    """`size` bytes at `offset` of a file that must still have `stamp`.

    Raises:
        CorpusError: source_changed, for offsets mean nothing in another file; source_unreadable.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise changed(path) from error
    except OSError as error:
        raise _failed(path, error) from error
    try:
        data = _read_at(handle, offset, size)
        if len(data) < size or Stamp.of(os.fstat(handle)) != stamp:
            raise changed(path)
        return data
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        os.close(handle)


def file_inside(root: Path, path: str) -> Path:
    """The file that a relative path of a table names, links resolved; nothing out of the folder is touched.

    Args:
        root: the folder, links resolved.
        path: as the table has it.

    Raises:
        RowRejected: missing_image, path_outside.
    """
    if not path or "\0" in path:
        raise RowRejected("missing_image", "The row names no image.")
    path = os.path.normpath(path)
    try:
        return _inside(root, path)
    except (OSError, ValueError):
        raise RowRejected("missing_image", _NOT_THERE + _why_missing(root, path)) from None


def stem_of(path: str) -> str:
    """A relative path without its extension: what a row is called by its image."""
    folder, slash, base = os.path.normpath(path).rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


def changed(path: object) -> CorpusError:
    """The error of a source that is no longer what the plan was made from."""
    return CorpusError(
        "source_changed",
        f"{path} changed or vanished while the build ran. Run the same command again once it is at rest: "
        "what is done stays done.",
    )


def _inside(root: Path, path: str) -> Path:
    real = Path(os.path.realpath(root / path))
    if path.startswith(("/", "../")) or not real.is_relative_to(root):
        raise RowRejected("path_outside", "The path is absolute or leads out of the table's folder.")
    real.lstat()
    return real


def _why_missing(root: Path, path: str) -> str:
    if _URL.match(path):
        return _NOT_FETCHED
    if "\\" in path:
        return _BACKSLASHES
    for form in ("NFC", "NFD"):  # archives that a Mac packed have the latter, tables the former
        with suppress(OSError, ValueError, RowRejected):
            _inside(root, unicodedata.normalize(form, path))
            return _OTHER_FORM
    return ""


def _read_at(handle: int, offset: int, size: int) -> bytes:
    # One pread gives at most 2 GiB and may give less.
    parts = []
    while size > 0 and (part := os.pread(handle, size, offset)):
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return b"".join(parts)


def _not_regular() -> RowRejected:
    return RowRejected("member_type", "It is a link, a device or a folder, not a regular file.")


def _failed(path: Path, error: OSError) -> CorpusError:
    return CorpusError("source_unreadable", f"Reading {path} failed: {error.strerror}. What is done stays done.")
