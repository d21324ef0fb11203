"""Addresses of objects: which texts are some, and which of their schemes are allowed. Standard library and errors."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from memory.errors import StoreRefused

# Scheme, and the package that speaks it beside fsspec.
SCHEMES: Final[Mapping[str, str]] = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
}
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET_AND_KEY = re.compile(r"[^/\0]+/[^\0]+")


def is_address(text: str) -> bool:
    """Whether a text has the form SCHEME://…, of whatever scheme."""
    return _ADDRESS.fullmatch(text) is not None


def check_address(text: str, allowed: Collection[str]) -> str:
    """Accept an address.

    Args:
        text: as the user gave it.
        allowed: schemes that the user allowed beside it.

    Returns:
        The address without slashes at its end.

    Raises:
        StoreRefused: the scheme is unknown or not allowed, or something is wrong with the rest.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or found[1] not in SCHEMES:
        raise StoreRefused(
            f"{_shown(text)!r} is no address of an object store: {', '.join(SCHEMES)} are known. "
            "Copy or mount it here and give its path."
        )
    if found[1] not in allowed:
        raise StoreRefused(
            f"{_shown(text)!r} lies in an object store, and nothing is fetched unless that is allowed: "
            f"--allow-remote {found[1]} allows this kind."
        )
    # abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/… names no user
    if "@" in found[2].partition("/")[0] and found[1] != "abfs":
        raise StoreRefused(
            "An address with a user or a key in it is refused, for others can read command lines: set the "
            "credentials in the environment."
        )
    address = text.rstrip("/")
    if not _BUCKET_AND_KEY.fullmatch(address.partition("://")[2]) or "/../" in f"{address}/":
        raise StoreRefused(f"{_shown(text)!r} names no object: {found[1]}://BUCKET/NAME is the form.")
    return address


def check_schemes(schemes: Collection[str]) -> tuple[str, ...]:
    """Accept what may be allowed.

    Raises:
        StoreRefused: a scheme is not one of SCHEMES.
    """
    for scheme in schemes:
        if scheme not in SCHEMES:
            raise StoreRefused(f"{scheme!r} cannot be allowed: choose of {', '.join(SCHEMES)}.")
    return tuple(schemes)


def named_schemes(*texts: str) -> tuple[str, ...]:
    """The schemes that options or a setting name: several in one text are parted by commas or spaces."""
    return tuple(scheme for text in texts for scheme in text.replace(",", " ").split())


def _shown(text: str) -> str:
    """An address for messages; what stands before an @ may be a secret."""
    scheme, mark, rest = text.partition("://")
    bucket, slash, key = rest.partition("/")
    return scheme + mark + bucket.rpartition("@")[2] + slash + key
