"""The one place that writes files of a memory. Standard library only.

Temporary name in the same directory, write and hash, fsync, link or rename, fsync of the directory.

A failed write or fsync is fatal (`WriteFailed`): after a failed fsync the kernel may have dropped the data
and still report success to the next one, so nothing here ever tries again.
"""

import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from memory.errors import WriteFailed

BUFFER_BYTES: Final = 1 << 20
_TEMPORARY = re.compile(r"\.tmp-[0-9]+-[0-9a-f]{16}")


@dataclass(frozen=True)
class Written:
    """Size and SHA-256 of what was written, taken from the bytes on their way to the disk."""

    bytes: int
    sha256: str


class HashingWriter(io.RawIOBase):
    """A write-only stream that hashes what passes through it (numpy, pyarrow and FAISS all write to it)."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._sha256 = hashlib.sha256()
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # any C-contiguous buffer
        self._file.write(view)
        self._sha256.update(view)
        self._position += view.nbytes
        return view.nbytes

    @property
    def written(self) -> Written:
        return Written(self._position, self._sha256.hexdigest())


def write_file(path: Path, write: Callable[[HashingWriter], object], *, replace: bool = False) -> Written:
    """Write a file so that `path` appears whole or not at all, and stays after a power loss.

    Args:
        path: final name; its directory must exist.
        write: called once with the stream.
        replace: True puts it in the place of an existing file; False creates it exclusively.

    Raises:
        FileExistsError: `path` exists and `replace` is False; the existing file is untouched.
        WriteFailed: the disk is full, or a write or fsync failed.
    """
    temporary = path.parent / _temporary_name()
    try:
        with _fatal(path):
            # "x" never follows a link planted under the temporary name; 0o666 leaves the mode to the umask.
            with temporary.open("xb", buffering=BUFFER_BYTES) as file:
                stream = HashingWriter(file)
                write(stream)
                file.flush()
                os.fsync(file.fileno())
            try:
                if replace:
                    temporary.replace(path)
                else:
                    os.link(temporary, path)
            finally:  # who wrote the file that is there may have been killed before this
                fsync_directory(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return stream.written


def write_bytes(path: Path, data: bytes, *, replace: bool = False) -> Written:
    """`write_file` for bytes at hand."""
    return write_file(path, lambda stream: stream.write(data), replace=replace)


@contextmanager
def staging_directory(parent: Path) -> Iterator[Path]:
    """A directory under a temporary name in `parent`, to be filled and then given to `commit_directory`.

    It is removed on the way out if it was not committed.
    """
    make_directory(parent)
    with _fatal(parent):
        staging = parent / _temporary_name()
        staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def commit_directory(staging: Path, final: Path) -> bool:
    """Give a filled staging directory its content-addressed name; True if it is new.

    False means a directory of that name exists already and `staging` was left alone: names are content
    hashes, so the one there holds the same files.
    """
    with _fatal(final):
        fsync_directory(staging)
        try:
            staging.rename(final)
            is_new = True
        except OSError:
            # Linux answers ENOTEMPTY, others EEXIST: what counts is whether somebody was there first.
            if not final.is_dir():
                raise
            is_new = False
        fsync_directory(final.parent)  # who was there first may have been killed before this
    return is_new


def remove_durably(path: Path) -> None:
    """Take a file or a directory away, whole: killed in the middle, nothing is left under its name.

    What is not there is no error. A directory is renamed first, for half of one would pass for a damaged one.

    Raises:
        WriteFailed: it cannot be removed, or the fsync failed.
    """
    with _fatal(path):
        try:
            if path.is_dir() and not path.is_symlink():
                doomed = path.rename(path.parent / _temporary_name())
                fsync_directory(path.parent)
                shutil.rmtree(doomed)
            else:
                path.unlink()
        except FileNotFoundError:
            return
        fsync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Create a directory and its parents, each one durable in its own parent.

    Raises:
        WriteFailed: it cannot be made, or the fsync failed.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    with _fatal(path):
        with suppress(FileExistsError):  # another process may have made it since
            path.mkdir()
        fsync_directory(path.parent)


def keep_name(path: Path) -> None:
    """Make the name of a file or directory that is there survive a power loss.

    Raises:
        WriteFailed: the fsync failed.
    """
    with _fatal(path):
        fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(directory: Path) -> None:
    """Remove what killed writers left behind. Only for the holder of the build lock."""
    if not directory.is_dir():
        return
    for entry in list(directory.iterdir()):
        if not _TEMPORARY.fullmatch(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _temporary_name() -> str:
    return f".tmp-{os.getpid()}-{secrets.token_hex(8)}"


@contextmanager
def _fatal(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise WriteFailed(
            f"writing {path} failed: {error.strerror or error}. Nothing was committed; "
            "free space or check the disk, then run the same command again."
        ) from error
