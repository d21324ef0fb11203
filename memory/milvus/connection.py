"""Calls to a Milvus server: a deadline for each, a retry within it, a breaker around them, and our own errors.

pymilvus (extra `milvus`) is loaded when a connection is made. Its client retries on its own until the deadline and
connects again by itself; what it gives up on counts as a failure for the breaker.
"""

import contextlib
import importlib
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from memory.errors import BackendRefused, MemoryUnavailable
from memory.milvus.breaker import Breaker

# Codes of Milvus (pymilvus.exceptions): what no waiting mends. All others mean that the server or a part of it is away.
_COLLECTION_NOT_FOUND: Final = 100
_NOT_LOADED: Final = 101
_REFUSED: Final = frozenset({_COLLECTION_NOT_FOUND, *range(1100, 1200), *range(1400, 1500)})
_REFUSED_STATUS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED"})
_BACK_OFF_S: Final = 0.05
# pymilvus pings every 10 s; a server at work on one long call, such as Lite building an index, takes that for an attack
# and hangs up, and the call would be made again.
_GRPC_OPTIONS: Final = {"grpc.keepalive_time_ms": 600_000}
LONG_S: Final = 3600.0  # deadline of calls that build or load: nobody's request waits for these


@dataclass(frozen=True)
class MilvusServer:
    """Where a Milvus is, and how long to wait for it.

    Attributes:
        uri: http:// or https:// and host and port; a standalone server, a cluster's proxy, `milvus-lite server`.
        token: `user:password` or an API key; never shown.
        timeout_s: deadline of one search or look-up, retries included.
        retries: further tries of a call that failed at once, within the deadline.
        breaker_failures: failed calls in a row after which calls are refused unasked.
        breaker_open_s: seconds between trials while they are.
    """

    uri: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 2.0
    retries: int = 2
    breaker_failures: int = 3
    breaker_open_s: float = 2.0

    @property
    def shown(self) -> str:
        """Its address, for people."""
        return without_password(self.uri)


def without_password(uri: str) -> str:
    """An address with its password masked, and rather more of a malformed one than less."""
    return re.sub(r"^((?:\w+://)?[^:@/]*):(?!//).*@", r"\1:**********@", uri)


def connect(server: MilvusServer) -> "Connection":
    """A connection; the first call opens it, so that a server that is away now may come back.

    Raises:
        BackendRefused: the address is none, or pymilvus is not installed.
    """
    if not server.uri.startswith(("http://", "https://")):
        raise BackendRefused(
            f"{server.shown!r} is no address of a Milvus server: http://HOST:PORT or https://HOST:PORT. For a Milvus "
            "Lite file, start its server: milvus-lite server --data-dir DIR --host 127.0.0.1"
        )
    try:
        importlib.import_module("pymilvus")
    except ImportError as error:
        raise BackendRefused("pymilvus is not installed: pip install 'reco-clip[milvus]'") from error
    # It logs a traceback for each failed try; failures are raised, and the breaker tells the first of a row.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return Connection(server)


class Connection:
    """One client, shared by all threads."""

    def __init__(self, server: MilvusServer) -> None:
        self.server = server
        self._breaker = Breaker(server.breaker_failures, server.breaker_open_s)
        self._lock = threading.Lock()
        self._client: Any = None

    def read(self, method: str, collection: str, **arguments: Any) -> Any:
        """A search or look-up, within the server's `timeout_s`; a collection that lost its load is loaded again.

        Raises:
            MemoryUnavailable: no answer in time, or the breaker is open.
            BackendRefused: it answered that it will not.
        """
        if not self._breaker.allows():
            raise MemoryUnavailable(f"Milvus at {self.server.shown} does not answer; asking again in a while")
        deadline = time.monotonic() + self.server.timeout_s
        try:
            answer = self._tried(method, collection, deadline, self.server.retries, arguments)
        except MemoryUnavailable:
            self._breaker.failed()
            raise
        except BackendRefused:  # an answer, too: the server is there
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer

    def manage(self, method: str, collection: str, **arguments: Any) -> Any:
        """A call that writes, builds or loads: minutes of patience, no breaker.

        Raises:
            MemoryUnavailable, BackendRefused: as for `read`.
        """
        return self._tried(method, collection, time.monotonic() + LONG_S, 0, arguments)

    def client(self, timeout_s: float) -> Any:
        """pymilvus' own client, connected."""
        with self._lock:
            if self._client is None:
                pymilvus = importlib.import_module("pymilvus")
                self._client = pymilvus.MilvusClient(
                    uri=self.server.uri,
                    token=self.server.token or "",
                    timeout=timeout_s,
                    grpc_options=_GRPC_OPTIONS,
                )
            return self._client

    def close(self) -> None:
        """Let go of the connection; a later call opens it again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # whatever it says, it is gone
                client.close()

    def _tried(self, method: str, collection: str, deadline: float, retries: int, arguments: dict[str, Any]) -> Any:
        for attempt in range(retries + 1):
            left = deadline - time.monotonic()
            try:
                return getattr(self.client(left), method)(collection, timeout=left, **arguments)
            except Exception as error:
                failure = self._failure(error)
                if isinstance(failure, BackendRefused):
                    raise failure from error
                wait = _BACK_OFF_S * 2**attempt
                if attempt == retries or time.monotonic() + wait >= deadline:
                    raise failure from error
                if _code(error) == _NOT_LOADED:
                    self._load_again(collection, deadline)
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _load_again(self, collection: str, deadline: float) -> None:
        """A server that was started again may have unloaded it; if loading outlasts the deadline, it goes on there."""
        left = deadline - time.monotonic()
        with contextlib.suppress(Exception):
            self.client(left).load_collection(collection, timeout=left)

    def _failure(self, error: Exception) -> MemoryUnavailable | BackendRefused:
        code = _code(error)
        told = f"Milvus at {self.server.shown}: {getattr(error, 'message', None) or type(error).__name__}"
        return BackendRefused(told) if code in _REFUSED or code in _REFUSED_STATUS else MemoryUnavailable(told)


def _code(error: Exception) -> int | str | None:
    """Milvus' number, or the name of gRPC's status; None for anything else."""
    code = getattr(error, "code", None)
    if callable(code):
        return str(getattr(code(), "name", code()))
    if code is not None and not isinstance(code, int | str):
        return str(getattr(code, "name", code))
    return code
