"""Where the service is and who asks: arguments first, then the environment.

    RECO_URL             http://127.0.0.1:8000, or of RECO_PORT, which `reco serve` listens on
    RECO_API_KEY         the key itself, or
    RECO_API_KEY_FILE    a file that holds it

Standard library and httpx.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from reco_client.version import __version__

HERE = "http://127.0.0.1"
DEFAULT_PORT = "8000"
_KEEPALIVE_S = 4.0  # the shorter patience: what closes idle connections waits for 5 s at least


def http_arguments(
    url: str | None,
    api_key: str | None,
    timeout_s: float,
    connections: int,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`; `timeout_s` is httpx's: of each read and each write.

    Raises:
        ValueError: no address of a service, or a key that cannot be sent.
        OSError: the key's file cannot be read.
    """
    ours = {"User-Agent": f"reco-client/{__version__}"}
    key = (api_key if api_key is not None else _key() or "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise ValueError("the API key holds a blank or a letter that no key has: is it all of the key, and no more?")
    if key:
        ours["Authorization"] = f"Bearer {key}"
    return {
        "base_url": _address(url or os.environ.get("RECO_URL") or _here()),
        "headers": {**ours, **(headers or {})},
        "timeout": timeout_of(timeout_s),
        "limits": httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE_S
        ),
    }


def timeout_of(timeout_s: float) -> httpx.Timeout:
    """Of each read and each write; a connection is there after 5 s, or not at all."""
    return httpx.Timeout(timeout_s, connect=min(5.0, timeout_s))


def _address(url: str) -> httpx.URL:
    """An address, of http where it names no scheme."""
    if "://" not in url and not url.startswith("/"):
        url = f"http://{url}"
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address of a service: one is like {HERE}:{DEFAULT_PORT}")
    return address


def _here() -> str:
    """Where a service on this machine listens, with the port that it would be told."""
    port = os.environ.get("RECO_PORT", "")
    return f"{HERE}:{port if port.isdecimal() else DEFAULT_PORT}"


def _key() -> str | None:
    if os.environ.get("RECO_API_KEY"):
        return os.environ["RECO_API_KEY"]
    path = os.environ.get("RECO_API_KEY_FILE")
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip() if path else None
    except UnicodeDecodeError:
        raise ValueError(f"RECO_API_KEY_FILE {path}: not text") from None
