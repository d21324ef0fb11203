"""Whether a browser has an answer already, by the tag that it was given with. Depends on starlette only."""

from starlette.requests import Request


def has_etag(request: Request, etag: str) -> bool:
    """Whether the request names this tag, alone or among others, or any.

    Weakly compared (RFC 9110, 13.1.2): a proxy that compresses an answer on its way marks the tag with W/.
    """
    named = (one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(","))
    return any(one in (etag, "*") for one in named)
