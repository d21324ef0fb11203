"""The members of a tar, by their headers alone, and proof that none is missing. Standard library and source.

Readers of tars, the standard library's included, stop without an error at a damaged header and at a cut
between two members. A whole tar ends in two or more blocks of zeros: it is accepted only if nothing else
follows its last member.
"""

import io
import os
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.regular_file import Stamp
from memory_builder.readers.source import Opened, Source, opened

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


class Archive:
    """An opened tar, some of whose members are read."""

    def __init__(self, source: Opened, headers: "_HeaderFile") -> None:
        self._source, self._headers = source, headers

    def members(self, begin: int, end: int) -> Iterator[Member]:
        """Those whose headers begin from `begin` up to `end`."""
        for member in _members(self._headers, begin):
            if member.begin >= end:
                return
            yield member

    def read(self, member: Member, limit: int) -> bytes:
        """A member's bytes, cut one byte beyond `limit`.

        Raises:
            CorpusError: source_changed, source_unreadable.
        """
        return self._source.read(member.offset, min(member.size, limit + 1))

    def later(self, member: Member, limit: int) -> Callable[[], bytes]:
        """The same when it is called for, also after the archive was closed."""
        return self._source.later(member.offset, min(member.size, limit + 1))


class _HeaderFile(io.BufferedReader):
    """What tarfile reads from: no header may claim to be a gigabyte."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header claims to be larger than any header is")
        return super().read(size)


def scan_members(source: Source) -> Iterator[Member]:
    """All members but folders, then the check that the archive is whole.

    Raises:
        CorpusError: source_truncated, archive_compressed, source_unreadable.
    """
    with _opened(source, None) as (_, file):
        end = yield from _members(file, 0)
        if not _ends_at(file, end):
            raise _damaged(source, f"after byte {end} comes neither a member nor the end of an archive")


@contextmanager
def opened_archive(source: Source, stamp: Stamp) -> Iterator[Archive]:
    """A scanned archive, which must still be the one that was scanned.

    Raises:
        CorpusError: source_changed, and as scan_members.
    """
    with _opened(source, stamp) as (opened_source, file):
        yield Archive(opened_source, file)


@contextmanager
def _opened(source: Source, stamp: Stamp | None) -> "Iterator[tuple[Opened, _HeaderFile]]":
    try:
        with opened(source, stamp) as found, _HeaderFile(found.file) as file:
            start = file.peek(8)
            for magic, name in _COMPRESSED.items():
                if start.startswith(magic):
                    raise CorpusError("archive_compressed", f"{source} is compressed with {name}: decompress it first.")
            yield found, file
    except OSError as error:
        raise CorpusError("source_unreadable", f"{source} cannot be read: {error}") from error
    except _FAULTS as error:
        raise _damaged(source, str(error)) from error


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
    size = file.seek(0, os.SEEK_END)
    if size % tarfile.BLOCKSIZE or size - end < 2 * tarfile.BLOCKSIZE:
        return False
    file.seek(end)
    while chunk := file.read(_CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True


def _damaged(source: Source, why: str) -> CorpusError:
    return CorpusError(
        "source_truncated",
        f"{source} is cut short or damaged ({why}): members may be missing. Copy or write the tar again; "
        "nothing of it was used.",
    )
