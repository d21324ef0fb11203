"""What of HTTP/1.1 is accepted, beyond what llhttp refuses: heads, targets, and how a body may be framed.

Two servers in a row may read an odd head as two different requests; of those nothing is taken. Standard library only.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
_FREE_CHUNKS: Final = 1024  # beyond them, chunks must be worth their cost: parsing one takes microseconds
_MIN_CHUNK_BYTES: Final = 128
_CHUNK_TRIMMINGS: Final = 16  # bytes of a chunk's size and line ends; more of them are extensions, which nobody needs
_MAX_LENGTH_DIGITS: Final = 18
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


class Refused(Exception):  # noqa: N818
    """This is no request that we take; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @classmethod
    def behind(cls, error: Exception) -> "Refused":
        """What a callback of the parser raised; a fault of ours in one is raised as it is."""
        cause = error.__context__
        if cause is None:
            return cls("request_invalid")
        if not isinstance(cause, Refused):
            raise cause
        return cause


def check_head(version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Check a head.

    Args:
        version: of HTTP, as "1.1".
        target: of the request line.
        headers: names in lower case, and values.

    Returns:
        the bytes of its body, 0 if they are not declared.

    Raises:
        Refused: request_invalid, headers_too_large.
    """
    size = len(target) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Refused("headers_too_large")
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found or (name == b"upgrade" and value.lower() == b"websocket"):
            raise Refused("request_invalid")
        if name in _ONCE:
            found[name] = value
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    odd_length = length is not None and not (length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS)
    odd_coding = coding is not None and (length is not None or version != "1.1" or coding.lower() != b"chunked")
    nameless = version == "1.1" and b"host" not in found
    if version not in ("1.0", "1.1") or odd_length or odd_coding or nameless or not target.isascii():
        raise Refused("request_invalid")
    return int(length or 0)


def split_authority(target: bytes) -> tuple[bytes | None, bytes]:
    """The host of an absolute target, as a forward proxy sends it (RFC 9112, 3.2.2), and what comes after it.

    Returns:
        None and the target where it is not absolute. Of another scheme it is no path here, and so no route.

    Raises:
        Refused: request_invalid, where it names no host, or a user before it.
    """
    found = _ABSOLUTE.match(target)
    if found is None:
        return None, target
    host, rest = found[1], target[found.end() :]
    if not host or b"@" in host:
        raise Refused("request_invalid")
    return host, rest if rest.startswith(b"/") else b"/" + rest


def split_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it was sent, and query; what stands before the path of an absolute target is cut off first."""
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query


def without_upgrade(method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that wishes for another protocol and has a body, without the wish: HTTP lets us ignore it.

    Where there is a wish, httptools takes what follows the head for that protocol, and so for the next request here.
    Java's client has it (h2c) in all that it sends before the first answer.

    Returns:
        nothing for a request without a body: after that, the next request follows indeed.

    Raises:
        Refused: request_invalid, for CONNECT with a body.
    """
    fields = dict(headers)
    if b"transfer-encoding" not in fields and not int(fields.get(b"content-length", 0)):
        return b""
    if method == b"CONNECT":
        raise Refused("request_invalid")
    kept = [b"%s: %s\r\n" % (name, value) for name, value in headers if name != b"upgrade"]
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), b"".join(kept))


class Framing:
    """Bytes of one request that are not its body, counted where they may be many."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A request begins."""
        self.chunks = self.body_bytes = self._others = 0

    def add(self, count: int) -> None:
        """Count bytes of the body.

        Raises:
            Refused: chunks_too_small.
        """
        self.body_bytes += count
        if self.chunks > _FREE_CHUNKS and self.body_bytes < self.chunks * _MIN_CHUNK_BYTES:
            raise Refused("chunks_too_small")

    def check(self, count: int) -> None:
        """Count what came of a head that has not ended, or between the parts of a body.

        Raises:
            Refused: headers_too_large.
        """
        self._others += count
        if self._others > MAX_HEADER_BYTES + self.chunks * _CHUNK_TRIMMINGS:
            raise Refused("headers_too_large")
