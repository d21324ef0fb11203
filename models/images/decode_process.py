"""A process that decodes: what runs in it. Files come through a socket, raw pixels or what is wrong go back through it.

A request is `LENGTH` and the file; an answer is `ANSWER` and so many bytes of pixels, or of a code or a traceback.
"""

import socket
import struct
import traceback

from models.errors import ImageError
from models.images.child_process import settle
from models.images.preprocessor import Preprocessor

LENGTH = struct.Struct("!Q")
ANSWER = struct.Struct("!BQ")
PIXELS, REFUSED, FAILED = range(3)  # what an answer holds: raw pixels, an ImageError's code, a traceback of ours


def serve(connection: socket.socket, preprocess: Preprocessor) -> None:
    """Decode until the other side hangs up; an empty answer tells that this process has begun.

    Pixels are (3, S, S) uint8, as `preprocess` gives them raw.
    """
    settle()
    with connection, connection.makefile("rb") as requests:
        connection.sendall(ANSWER.pack(PIXELS, 0))
        while head := requests.read(LENGTH.size):
            kind, answer = _decode(preprocess, requests.read(*LENGTH.unpack(head)))
            connection.sendall(ANSWER.pack(kind, len(answer)))
            connection.sendall(answer)


def pixels_shape(preprocess: Preprocessor) -> tuple[int, int, int]:
    """Of what an answer's pixels are: (3, S, S) uint8."""
    height, width = preprocess.record["size"]
    return 3, height, width


def _decode(preprocess: Preprocessor, data: bytes) -> tuple[int, memoryview | bytes]:
    try:
        return PIXELS, preprocess(data, raw=True).numpy().data.cast("B")
    except ImageError as error:
        return REFUSED, error.code.encode()
    except Exception:
        return FAILED, traceback.format_exc().encode()
