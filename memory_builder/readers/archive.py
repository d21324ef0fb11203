"""The members of a tar, by their headers alone, and proof that none is missing. Standard library only.

Readers of tars, the standard library's included, stop without an error at a damaged header and at a cut
between two members. A whole tar ends in two or more blocks of zeros: it is accepted only if nothing else
follows its last member.
"""

import io
import os
import tarfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.regular_file import Stamp, changed

_MAX_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# What a damaged or hostile header makes of the standard library.
_FAULTS = (tarfile.TarError, ValueError, OverflowError, IndexError, EOFError, RecursionError)


class Member(NamedTuple):
    """One member: its header begins at `begin`, its `size` bytes lie at `offset` if it is a regular file."""

    name: str
    regular: bool
    begin: int
    offset: int
    size: int


class _HeaderFile(io.BufferedReader):
    """What tarfile reads from: no header may claim to be a gigabyte."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header claims to be larger than any header is")
        return super().read(size)


def scan_members(path: Path) -> Iterator[Member]:
    """All members but folders, then the check that the archive is whole.

    Raises:
        CorpusError: source_truncated, archive_compressed, source_unreadable.
    """
    with _opened(path) as file:
        end = yield from _members(file, 0)
        if not _ends_at(file, end):
            raise _damaged(path, f"after byte {end} comes neither a member nor the end of an archive")


def range_members(path: Path, stamp: Stamp, begin: int, end: int) -> Iterator[Member]:
    """Those members of a scanned archive whose headers begin from `begin` up to `end`.

    Raises:
        CorpusError: source_changed, and as scan_members.
    """
    with _opened(path) as file:
        if Stamp.of(os.fstat(file.fileno())) != stamp:
            raise changed(path)
        for member in _members(file, begin):
            if member.begin >= end:
                return
            yield member


@contextmanager
def _opened(path: Path) -> Iterator[_HeaderFile]:
    try:
        with _HeaderFile(io.FileIO(path)) as file:
            start = file.peek(8)
            for magic, name in _COMPRESSED.items():
                if start.startswith(magic):
                    raise CorpusError("archive_compressed", f"{path} is compressed with {name}: decompress it first.")
            yield file
    except OSError as error:
        raise CorpusError("source_unreadable", f"{path} cannot be read: {error}") from error
    except _FAULTS as error:
        raise _damaged(path, str(error)) from error


def _members(file: _HeaderFile, begin: int) -> Generator[Member, None, int]:
    """Yields the members from `begin` on; returns where the first header that is none lies."""
    file.seek(begin)
    # The encoding is named: the default is that of the machine.
    with tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape") as archive:
        while (info := archive.next()) is not None:
            # tarfile keeps every member it met, and a tar may have 10^7. Typeshed leaves it out.
            archive.members.clear()  # type: ignore[attr-defined]
            if archive.offset <= info.offset:  # a negative size would lead round in a circle for ever
                raise tarfile.ReadError("a header points backwards")
            if not info.isdir():
                regular = info.isreg() and not info.issparse()
                yield Member(info.name, regular, info.offset, info.offset_data, info.size)
        return archive.offset


def _ends_at(file: _HeaderFile, end: int) -> bool:
    """Whether nothing but whole blocks of zeros, two at least, follows `end`."""
    size = os.fstat(file.fileno()).st_size
    if size % tarfile.BLOCKSIZE or size - end < 2 * tarfile.BLOCKSIZE:
        return False
    file.seek(end)
    while chunk := file.read(_CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True


def _damaged(path: Path, why: str) -> CorpusError:
    return CorpusError(
        "source_truncated",
        f"{path} is cut short or damaged ({why}): members may be missing. Copy or write the tar again; "
        "nothing of it was used.",
    )
