"""A picture's file as an answer, in parts: whoever does not read holds one of them, not a copy of the file.

Depends on starlette and image_bytes. starlette's own file response follows links, and has no hash for its ETag.
"""

import asyncio
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.memory_items.image_bytes import image_headers, image_type

_PART_BYTES = 64 * 1024
_HEAD_BYTES = 16  # tell the type


@dataclass(frozen=True)
class Known:
    """What was read off a whole file: how it looked then, its type (None: no picture), and its ETag."""

    look: tuple[int, ...]
    media_type: str | None
    etag: str


@dataclass(frozen=True)
class Picture:
    """An open file, to be closed by whoever has it."""

    file: BinaryIO
    size: int
    known: Known


def open_picture(path: Path, known: Known | None, *, max_bytes: int) -> Picture | None:
    """Open a picture, and read it only if it is not known as it looks now; None for a link, or where there is none.

    Args:
        known: what was read the last time.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    file = os.fdopen(descriptor, "rb")
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode) and state.st_size <= max_bytes:
        look = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if known is None or known.look != look:
            known = _read(file, look)
        return Picture(file, state.st_size, known)
    file.close()
    return None


def _read(file: BinaryIO, look: tuple[int, ...]) -> Known:
    digest = sha256()
    head = part = file.read(_PART_BYTES)
    while part:
        digest.update(part)
        part = file.read(_PART_BYTES)
    file.seek(0)
    return Known(look, image_type(head[:_HEAD_BYTES]), f'"{digest.hexdigest()[:16]}"')


class PictureResponse(Response):
    """Sends a picture's file, and closes it."""

    def __init__(self, picture: Picture) -> None:
        known = picture.known
        headers = {**image_headers(known.etag), "Content-Length": str(picture.size)}
        super().__init__(media_type=known.media_type, headers=headers)
        self._picture = picture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read on as the client takes what was read."""
        with self._picture.file as file:
            left = 0 if scope["method"] == "HEAD" else self._picture.size
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while left:
                part = await asyncio.to_thread(file.read, min(left, _PART_BYTES))
                if not part:
                    return  # cut short meanwhile: the server ends the connection before the length that was told
                left -= len(part)
                await send({"type": "http.response.body", "body": part, "more_body": left > 0})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
