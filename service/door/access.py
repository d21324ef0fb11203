"""Who may ask what: the door in front of every route. Closed by default; what is open is listed here.

Plain ASGI, inside the request's frame and before anything is read. Depends on the files beside it and problems.
"""

import ipaddress
import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.door.bodies import Bodies
from service.door.frame import answer_problem
from service.door.hosts import Hosts
from service.door.keys import Key, KeyRing, KeyScope, read_keys
from service.door.limits import Limiter, Limits
from service.door.shedding import RefuseIfFull, shed
from service.door.turns import Turns
from service.problems import Problem
from service.settings import Settings

logger = logging.getLogger("reco.keys")

# The page's own files, its pictures to try, the documentation and the probes hold nothing that a key protects.
PROBES = frozenset({"/livez", "/readyz", "/health"})
OPEN_PATHS = PROBES | {"/", "/docs", "/openapi.json", "/samples"}
OPEN_PREFIXES = ("/page/", "/samples/")
METRICS_PATH = "/metrics"
# (methods, or None for all; prefix of the path)
OPERATOR_ROUTES: tuple[tuple[frozenset[str] | None, str], ...] = (
    (None, "/operator/"),
    (frozenset({"PUT", "DELETE"}), "/label_sets/"),
)
_BEARER = re.compile(rb"bearer +([\x21-\x7e]{1,512})", re.IGNORECASE)
_LONGEST_ADDRESS = 64  # of IPv6 with a zone; a proxy's word for one may be anything
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Access:
    """The keys and limits of one service."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys.

        Raises:
            SettingsError: they cannot be read.
        """
        self._settings = settings
        self.keys: KeyRing = read_keys(settings)
        self.limiter = Limiter()
        self.bodies = Bodies(settings.max_inflight_bytes)
        self._hosts = Hosts(settings.allowed_hosts, loopback=not settings.listens_beyond_loopback)

    @property
    def needs_key(self) -> bool:
        """Whether using the service takes a key."""
        return self.keys.opens("use")

    def reread(self) -> None:
        """Take the keys that the file holds now; if it cannot be read, those known stay.

        Raises:
            SettingsError: it cannot be read.
        """
        before, self.keys = self.keys, read_keys(self._settings)
        if before.names or self.keys.names:
            told = {"new": self.keys.names - before.names, "gone": before.names - self.keys.names}
            changes = "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in told.items() if names)
            logger.info("keys read again: %d (%s)", len(self.keys.names), changes or "the same names")

    def scope_of(self, method: str, path: str) -> KeyScope | None:
        """What a key must have for this, None for nothing."""
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return None
        if path == METRICS_PATH and not self._settings.metrics_need_key:
            return None
        for methods, prefix in OPERATOR_ROUTES:
            if path.startswith(prefix) and (methods is None or method in methods):
                return "operator"
        return "use"

    def check(self, scope: KeyScope | None, headers: Headers) -> Key | None:
        """The key of a request that may pass; None where none is needed.

        Args:
            scope: what it needs, of `scope_of`.
            headers: of the request.

        Raises:
            Problem: not_found, request_invalid, unauthorized, scope_missing, host_unknown.
        """
        if scope is None:
            return None
        if scope == "operator" and not self.keys.opens("operator"):
            raise Problem("not_found")  # the operator's routes are not there until somebody may use them
        given = headers.getlist("authorization")
        if len(given) > 1:
            raise Problem("request_invalid")
        key = self._key(given[0]) if given else None
        if scope == "use" and not self.needs_key:
            if not self._hosts.answers_to(headers.get("host")):
                raise Problem("host_unknown")
            return key  # keys are off; OpenAI's clients send one all the same
        if key is None:
            raise Problem("unauthorized", headers=_CHALLENGE)
        if scope not in key.scopes:
            raise Problem("scope_missing", extensions={"expected": f"a key with the scope {scope}"})
        return key

    def is_operator_port(self, scope: Scope) -> bool:
        """Whether a request came in by `RECO_OPERATOR_PORT`."""
        server = scope.get("server")
        return server is not None and server[1] == self._settings.operator_port

    def is_elsewhere(self, needed: KeyScope | None, path: str, *, operator_port: bool) -> bool:
        """Whether a path is served by the other of two ports."""
        if self._settings.operator_port is None or path in PROBES:
            return False
        return (needed == "operator" or path == METRICS_PATH) != operator_port

    def limits_of(self, key: Key | None) -> Limits:
        """The key's own limits, else the service's."""
        rate = self._settings.rate_limit if key is None or key.rate is None else key.rate
        concurrency = self._settings.max_concurrency if key is None or key.concurrency is None else key.concurrency
        return Limits(rate, max(1.0, (rate or 0.0) * self._settings.rate_burst_s), concurrency)

    def _key(self, authorization: str) -> Key | None:
        found = _BEARER.fullmatch(authorization.encode("latin-1"))
        return None if found is None else self.keys.find(found[1])


class Door:
    """Lets a request in, or answers for the app."""

    def __init__(
        self, app: ASGIApp, access: Access, refuse_if_full: RefuseIfFull, has_enough: Callable[[], bool]
    ) -> None:
        """Wrap an app.

        Args:
            app: what is behind the door.
            access: its keys and limits.
            refuse_if_full: told the queues that a request would fill; see `Pipeline.refuse_if_full`.
            has_enough: see `Turns`.
        """
        self._app = app
        self._access = access
        self._refuse_if_full = refuse_if_full
        self._turns = Turns(has_enough)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access, path = self._access, scope["path"]
        try:
            needed = access.scope_of(scope["method"], path)
            inside = access.is_operator_port(scope)
            if access.is_elsewhere(needed, path, operator_port=inside):
                raise Problem("not_found")
            key = access.check(needed, Headers(scope=scope))
            scope["state"]["key"] = None if key is None else key.name
            with access.bodies.share() as share:
                scope["state"]["body"] = share
                if needed is None or inside:  # load and limits never keep an operator out
                    await self._app(scope, receive, send)
                    return
                name = f"key {key.name}" if key is not None else f"address {_network(scope)}"
                limits = access.limits_of(key)

                def items() -> int:
                    known: int | None = scope["state"].get("items")
                    return known or 1

                scope["state"]["charge"] = partial(access.limiter.charge, name, limits)
                with access.limiter.admit(name, limits, items):
                    if limits.rate is not None:  # told when the answer begins, and its items are known
                        send = _telling(send, lambda: access.limiter.headers(name, limits, owed=items() - 1))
                    await shed(scope, self._refuse_if_full, self._turns)
                    await self._app(scope, receive, send)
        except Problem as problem:
            await answer_problem(Request(scope), problem)(scope, receive, send)


def _telling(send: Send, headers: Callable[[], Mapping[str, str]]) -> Send:
    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers())
        await send(message)

    return tell


def _network(scope: Scope) -> str:
    """Whom an anonymous request counts for: an IPv4 address, or the /64 that one IPv6 customer has."""
    client = scope.get("client")
    return _network_of(client[0]) if client and len(client[0]) <= _LONGEST_ADDRESS else "unknown"


@lru_cache(maxsize=1024)
def _network_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
