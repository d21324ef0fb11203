"""Images to send: the bytes of encoded files, from wherever they are. Nothing is decoded here.

Standard library only.
"""

import errno
from os import SEEK_END, PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias


class Readable(Protocol):
    """An open binary file, or what reads like one."""

    def read(self) -> bytes: ...


# A str is a path. Bytes are an encoded file (JPEG, PNG, WebP, GIF, AVIF), never pixels.
ImageSource: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | Readable


def image_size(source: ImageSource) -> int:
    """Bytes that an image will take; 0 where nobody knows before it is read, or if it cannot be read."""
    if isinstance(source, str | PathLike):
        try:
            return Path(source).stat().st_size
        except (OSError, ValueError):
            return 0
    if isinstance(source, bytes | bytearray | memoryview):
        return len(source)
    file: Any = source
    try:
        place, end = file.tell(), file.seek(0, SEEK_END)
        file.seek(place)
        return int(end - place)
    except (AttributeError, OSError, TypeError, ValueError):  # a pipe or a closed file, or no file at all
        return 0


def read_image(source: ImageSource) -> bytes:
    """The encoded file.

    Raises:
        OSError: a path that cannot be read.
        ValueError: a path that holds a zero, or a file that was closed.
        TypeError: no path, bytes or open file: an array or a PIL image must be encoded first.
    """
    if isinstance(source, str | PathLike):
        if Path(source).is_dir():
            told = "a folder is no image: give its files, as in sorted(Path(...).glob('*.jpg'))"
            raise IsADirectoryError(errno.EISDIR, told, fspath(source))
        return Path(source).read_bytes()
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    read = getattr(source, "read", None)
    content = read() if callable(read) else None
    if isinstance(content, bytes):
        return content
    raise TypeError(
        f"an image is a path, the bytes of an encoded file, or an open binary file, not {type(source).__name__}; "
        "save an array or a PIL image to io.BytesIO first, and give its getvalue()"
    )
