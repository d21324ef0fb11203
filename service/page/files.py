"""The page's files, read once from the package, and the headers under which a browser runs them.

Depends on starlette and etags. Everything the page loads comes from this service: no inline script, no inline style.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from service.etags import has_etag

FOLDER = Path(__file__).parent
INDEX = "index.html"
POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",  # an upgraded service must not meet a page of yesterday
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        """The file, or 304 for a browser that has it."""
        headers = {**_HEADERS, "ETag": self.etag}
        if has_etag(request, self.etag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers={**headers, "Content-Type": self.media_type})


def gallery_response(content: bytes) -> Response:
    """The gallery of `reco eval`: images and style inside the file, and nothing of it may run or ask."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
    headers = {**_HEADERS, "Content-Security-Policy": policy}
    return Response(content, headers=headers, media_type=_TYPES[".html"])


def page_files() -> dict[str, PageFile]:
    """Every file of the page by name; `/docs` has a template of its own there, which is none of them."""
    paths = [path for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES]
    return {path.name: _read(path) for path in paths}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
