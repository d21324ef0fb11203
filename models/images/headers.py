"""What an image file says of itself, read without decoding: format, size, and whether it is all there.

A few kilobytes of hostile structure (a million empty chunks, a profile that inflates a thousandfold, repeated) cost a
decoder seconds while it holds the interpreter, so each walk here is bounded and refuses what exceeds any real encoder.
Imports our own errors only.
"""

import re
from dataclasses import dataclass

from models.errors import ImageError

# Far above what encoders write: a 20 MiB PNG in 1 KiB chunks, a 20 MiB GIF in half-full blocks.
_MAX_CHUNKS = 20_000
_MAX_GIF_BLOCKS = 160_000
_MAX_GIF_EXTENSIONS = 100
_MAX_JPEG_JUNK_BYTES = 65_536
_JPEG_SEARCH_BYTES = 2**20
_SIZE_BYTES = 2**18  # of a file, in which its size is found: only profiles and thumbnails stand before it
# A progressive scan visits all pixels however few bytes it has; encoders write 3 to 16.
_MAX_JPEG_SCANS = 100
_MAX_JPEG_SCANNED_PIXELS = 600_000_000

_DETAILS = {
    "image_empty": "The image has no bytes.",
    "image_too_large": "The image file has more bytes than the limit.",
    "image_format_unsupported": "The bytes are not a JPEG, PNG, WebP, GIF or AVIF image.",
    "image_truncated": "The image file ends before the image does.",
    "image_undecodable": "The image file is damaged and cannot be decoded.",
    "image_too_many_pixels": "The image has more pixels than the limit.",
    "image_aspect_ratio": "The image is too long and thin.",
}

# The next marker in a JPEG: neither fill nor a stuffed zero; inside a scan, not a restart either.
_ANY_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SCAN_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})  # made of pixels: there are no blocks to take a part of
_JPEG_WITHOUT_LENGTH = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, 0xD9


@dataclass(frozen=True)
class ImageHeader:
    """Attributes:
    format: JPEG, PNG, WEBP, GIF or AVIF, by the magic bytes and by nothing else.
    size: width and height of what will be allocated; None where only the decoder can tell, without allocating.
    complete: False if the file ends before its own structure does.
    scales: whether it can be decoded at a part of its size.
    """

    format: str
    size: tuple[int, int] | None
    complete: bool
    scales: bool = False


def image_error(code: str) -> ImageError:
    """The error of `code`, with its fixed sentence: never the decoder's, which may show addresses and input."""
    return ImageError(code, _DETAILS[code])


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an image file in bounded time.

    Raises:
        ImageError: image_format_unsupported, or image_undecodable for a structure no encoder writes.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _read_gif(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _read_webp(data)
    if data[4:8] == b"ftyp" and _has_avif_brand(data):
        return ImageHeader("AVIF", None, _boxes_are_complete(data))
    raise image_error("image_format_unsupported")


def count_pixels(data: bytes, most: int) -> int:
    """Pixels that decoding a file allocates, as its first bytes tell, before anything is spent on it.

    Returns:
        `most` where only the decoder can tell; 0 for what is refused undecoded, as a file of more than `most` is.
    """
    try:
        size = read_header(data[:_SIZE_BYTES]).size
    except ImageError:
        return 0
    pixels = most if size is None else size[0] * size[1]
    return pixels if pixels <= most else 0


def _read_jpeg(data: bytes) -> ImageHeader:
    size, scans, junk, position, complete, lossless = None, 0, 0, 2, False, False
    for _ in range(_MAX_CHUNKS):
        start = position
        position = _after_jpeg_marker(data, start, in_scan=scans > 0)
        # Before the first scan Pillow walks byte by byte over what is no marker.
        junk += 0 if scans else position - start - 2
        if junk > _MAX_JPEG_JUNK_BYTES:
            raise image_error("image_undecodable")
        if position > len(data):
            break
        marker = data[position - 1]
        if marker == _JPEG_END and scans:
            complete = True
            break
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if marker in _JPEG_FRAME and position + 7 <= len(data):
            size = (_big(data, position + 5, 2), _big(data, position + 3, 2))
            lossless |= marker in _JPEG_LOSSLESS
        scans += marker == _JPEG_START_OF_SCAN
        position += max(2, _big(data, position, 2))
    else:
        raise image_error("image_undecodable")
    pixels = size[0] * size[1] if size else 0
    if scans > _MAX_JPEG_SCANS or (scans > 1 and scans * pixels > _MAX_JPEG_SCANNED_PIXELS):
        raise image_error("image_undecodable")
    return ImageHeader("JPEG", size, complete, scales=not lossless)


def _after_jpeg_marker(data: bytes, start: int, *, in_scan: bool) -> int:
    """The position after the next marker; past the end of the data, or of what we search, if there is none."""
    if not in_scan:
        found = _ANY_MARKER.search(data, start, start + _MAX_JPEG_JUNK_BYTES)
        if found:
            return found.end()
        # Too much junk for the caller, or the end.
        return start + _MAX_JPEG_JUNK_BYTES + 3 if start + _MAX_JPEG_JUNK_BYTES < len(data) else len(data) + 1
    # A search holds the interpreter, so a long scan is searched in pieces, each with the byte that may end a marker.
    for piece in range(start, len(data), _JPEG_SEARCH_BYTES):
        if found := _SCAN_MARKER.search(data, piece, piece + _JPEG_SEARCH_BYTES + 1):
            return found.end()
    return len(data) + 1


def _read_png(data: bytes) -> ImageHeader:
    size = (_big(data, 16, 4), _big(data, 20, 4)) if len(data) >= 24 else None
    profiles, position = 0, 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            return ImageHeader("PNG", size, complete=False)
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            return ImageHeader("PNG", size, complete=True)
        profiles += kind == b"iCCP"  # each may inflate a thousandfold; the specification allows one
        if profiles > 1:
            break
        position += 12 + _big(data, position, 4)
    raise image_error("image_undecodable")


def _read_gif(data: bytes) -> ImageHeader:
    """As far as the end of the first frame, which is all that is ever decoded."""
    if len(data) < 13:
        return ImageHeader("GIF", None, complete=False)
    size = (_little(data, 6, 2), _little(data, 8, 2))
    position = 13 + _gif_palette_bytes(data[10])
    for _ in range(_MAX_GIF_EXTENSIONS):
        kind = data[position : position + 1]
        if kind == b"!":
            position = _after_gif_blocks(data, position + 2, _MAX_CHUNKS)
        elif kind == b"," and position + 10 <= len(data):
            left, top, width, height = (_little(data, position + offset, 2) for offset in (1, 3, 5, 7))
            size = (max(size[0], left + width), max(size[1], top + height))  # a frame may exceed its screen
            pixels = position + 11 + _gif_palette_bytes(data[position + 9])
            return ImageHeader("GIF", size, _after_gif_blocks(data, pixels, _MAX_GIF_BLOCKS) <= len(data))
        elif kind in (b"", b",", b";"):
            return ImageHeader("GIF", size, complete=False)
        else:
            position += 1
    raise image_error("image_undecodable")


def _read_webp(data: bytes) -> ImageHeader:
    kind, size = data[12:16], None
    if kind == b"VP8X" and len(data) >= 30:
        size = (_little(data, 24, 3) + 1, _little(data, 27, 3) + 1)
    elif kind == b"VP8L" and len(data) >= 25:
        bits = _little(data, 21, 4)
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif kind == b"VP8 " and len(data) >= 30:
        size = (_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    return ImageHeader("WEBP", size, complete=8 + _little(data, 4, 4) <= len(data))


def _has_avif_brand(data: bytes) -> bool:
    brands = data[8 : min(_big(data, 0, 4), 256)]
    return any(brands[start : start + 4] in (b"avif", b"avis") for start in range(0, len(brands), 4))


def _boxes_are_complete(data: bytes) -> bool:
    """Whether each box ends inside the file and the coded pixels ("mdat") are among them."""
    position, has_pixels = 0, False
    for _ in range(_MAX_CHUNKS):
        if position == len(data):
            return has_pixels
        length = _big(data, position, 4)
        has_pixels |= data[position + 4 : position + 8] == b"mdat"
        if length == 1:
            length = _big(data, position + 8, 8)
        if length == 0:  # to the end of the file
            return has_pixels
        if length < 8 or position + length > len(data):
            return False
        position += length
    raise image_error("image_undecodable")


def _gif_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, position: int, most: int) -> int:
    """Where the run of sub-blocks at `position` ends; past the end of the data if it does not."""
    for _ in range(most):
        if position >= len(data):
            return len(data) + 1
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
    raise image_error("image_undecodable")


def _big(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "big")


def _little(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "little")
