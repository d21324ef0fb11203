"""What settings must agree on with one another, and texts that only look like what they should be.

Standard library only; `Settings` asks when all of its fields are there.
"""

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import Settings

_HOST_NAME = re.compile(r"\*|[A-Za-z0-9._-]*|\[?[0-9A-Fa-f:.]+\]?")
_ORIGIN = re.compile(r"https?://[^\s/?#@]+")


def check(settings: "Settings") -> None:
    """Refuse settings that contradict each other.

    Raises:
        ValueError: with the variables' names, and what would be accepted.
    """
    _check_milvus(settings)
    _check_store(settings)
    _check_hosts(settings.allowed_hosts)
    _check_origins(settings)
    _check_proxies(settings.trusted_proxies)
    if settings.max_inflight_bytes < settings.max_body_bytes:
        raise ValueError("RECO_MAX_INFLIGHT_BYTES must hold at least one body of RECO_MAX_BODY_BYTES")


def origins_of(setting: str | None) -> list[str]:
    """The origins of `RECO_CORS_ORIGINS`."""
    return [origin for one in (setting or "").split(",") if (origin := one.strip().lower())]


def _check_milvus(settings: "Settings") -> None:
    if settings.milvus_token is not None and settings.milvus_token_file is not None:
        raise ValueError("give one of RECO_MILVUS_TOKEN and RECO_MILVUS_TOKEN_FILE")
    if settings.backend != "milvus":
        return
    if settings.milvus_uri is None:
        raise ValueError("RECO_BACKEND=milvus needs RECO_MILVUS_URI")
    if settings.milvus_timeout_s >= settings.hang_timeout_s:
        raise ValueError("RECO_MILVUS_TIMEOUT_S must be less than RECO_HANG_TIMEOUT_S, which ends the process")


def _check_store(settings: "Settings") -> None:
    scheme = settings.memory.partition("://")[0]
    if settings.backend == "faiss" and settings.memory_is_remote and scheme not in settings.allowed_schemes:
        raise ValueError(f"RECO_MEMORY lies in an object store: RECO_ALLOW_REMOTE={scheme} allows that")


def _check_hosts(setting: str | None) -> None:
    """With anything but a name in it, no request would ever be addressed to one."""
    if not all(_HOST_NAME.fullmatch(host.strip()) for host in (setting or "").split(",")):
        raise ValueError("RECO_ALLOWED_HOSTS are names like clip.example.com: no scheme, port or path, commas between")


def _check_origins(settings: "Settings") -> None:
    origins = origins_of(settings.cors_origins)
    if "*" in origins and (settings.api_keys is not None or settings.api_keys_file is not None):
        raise ValueError("RECO_CORS_ORIGINS=* would lend the keys to every page: name the origins")
    if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("RECO_CORS_ORIGINS are like https://app.example.com: scheme, host and port, and no path")


def _check_proxies(setting: str | None) -> None:
    """The server would take what is no address for a socket's name, which no connection comes from."""
    for proxy in (setting or "").split(","):
        if not proxy.strip() or setting == "*":
            continue
        try:
            ipaddress.ip_network(proxy.strip())
        except ValueError:
            raise ValueError(
                "RECO_TRUSTED_PROXIES are addresses or networks, like 10.0.0.0/8: names are not looked up"
            ) from None
