"""Which names a service without keys answers to: a web page can give its own name the address of a loopback service.

A browser then takes the service for a part of that page (DNS rebinding), and lets it read every answer. The one thing
the page cannot change is the Host header: its own name. Standard library only.
"""

import ipaddress
import re
from functools import lru_cache

LOCAL_SUFFIXES = (".localhost", ".local", ".internal")  # no public name ends in one
_LONGEST_NAME = 300  # of DNS 253, with a port
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::\d{1,5})?")


class Hosts:
    """The names of one service."""

    def __init__(self, allowed: str | None, *, loopback: bool) -> None:
        """Take the setting.

        Args:
            allowed: names separated by commas; "*" is any; None leaves it to `loopback`.
            loopback: whether the service listens on loopback only: beyond it, nobody here knows its names.
        """
        names = {name.strip().lower().rstrip(".") for name in (allowed or "").split(",")} - {""}
        self._any = "*" in names or (allowed is None and not loopback)
        self._names = frozenset(names)

    def answers_to(self, host: str | None) -> bool:
        """Whether a Host header names this service; without one it is no browser that asks."""
        if self._any or host is None:
            return True
        if len(host) > _LONGEST_NAME:
            return False
        name = _name_in(host)
        return name is not None and (name in self._names or _is_nobodys(name))


@lru_cache(maxsize=256)
def _name_in(host: str) -> str | None:
    found = _HOST.fullmatch(host.strip())
    return None if found is None else found[1].lower().rstrip(".")


@lru_cache(maxsize=256)
def _is_nobodys(name: str) -> bool:
    """An address, or a name that no stranger can own: those without a dot are, like localhost, of a host or network."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(LOCAL_SUFFIXES)
    return True
