"""Images that leave the service: their type is read off their first bytes, and a browser may not guess another.

Depends on starlette and etags.
"""

from starlette.requests import Request
from starlette.responses import Response

from service.etags import has_etag

_HEADERS = {
    "Cache-Control": "private, no-cache",  # kept, and asked about each time: an id means another image elsewhere
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def image_type(data: bytes) -> str | None:
    """The media type of an image that browsers show and that holds no script; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return None


def not_modified(request: Request, etag: str) -> Response | None:
    """The 304 for a browser that has this very image; None for all others."""
    if not has_etag(request, etag):
        return None
    return Response(status_code=304, headers=image_headers(etag))


def image_response(data: bytes, media_type: str, etag: str) -> Response:
    """An image as an answer."""
    return Response(data, media_type=media_type, headers=image_headers(etag))


def image_headers(etag: str) -> dict[str, str]:
    """What every answer with an image says beside its type."""
    return {**_HEADERS, "ETag": etag}
