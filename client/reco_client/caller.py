"""What both clients are beside their way of waiting: where the service is, how streams are cut, when to try again.

No connection is touched here. Depends on httpx and the parts beside it.
"""

import math
import threading
from collections.abc import Mapping
from typing import Generic, TypeVar

import httpx

from reco_client.asks import Ask
from reco_client.errors import ConnectionFailed, RecoError, error_of
from reco_client.retries import Deadline, OnRetry, Retries
from reco_client.settings import http_arguments, timeout_of
from reco_client.streams import Cut

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class Caller(Generic[Http]):
    """A service to ask; `Client` and `AsyncClient` say how."""

    _http_class: type[Http]
    _http: Http

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        deadline_s: float | None = None,
        retries: Retries | None = None,
        on_retry: OnRetry | None = None,
        in_flight: int = 8,
        texts_per_request: int = 64,
        images_per_request: int = 16,
        bytes_per_request: int = 32 * 2**20,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the service; by default RECO_URL, or http://127.0.0.1 at RECO_PORT, or 8000.
            api_key: by default RECO_API_KEY, or what the file RECO_API_KEY_FILE holds.
            timeout_s: without a byte from the service, or without one that it takes, until an attempt is given up; one
                that trickles may take longer, and waits between attempts come on top.
            deadline_s: until a request is given up, with all its attempts and the waits between them; a stream is many
                requests. By default `retries` alone says when.
            retries: when to try again; `Retries(attempts=1)` never does.
            on_retry: called with what failed, how many attempts have, and the seconds until the next, in the thread of
                the request: for whoever wants to know why there is no answer yet.
            in_flight: requests under way at a time; no more of a stream is taken than they hold.
            texts_per_request, images_per_request, bytes_per_request: how a stream is cut.
            headers: to send with each request, as what stands before the service may ask for.

        Raises:
            ValueError: no address of a service, a key that cannot be sent, no time to wait, or nothing to be sent.
            TypeError: a time that is no number.
        """
        if in_flight < 1:
            raise ValueError("in_flight is at least 1: with none under way there is never an answer")
        _check_seconds("timeout_s", timeout_s)
        if deadline_s is not None:
            _check_seconds("deadline_s", deadline_s)
        self._http = self._http_class(**http_arguments(url, api_key, timeout_s, in_flight, headers))
        self._timeout_s, self._deadline_s = timeout_s, deadline_s
        self._retries = retries or Retries()
        self._on_retry = on_retry
        self._in_flight = in_flight
        self._room = threading.BoundedSemaphore(in_flight)  # threads wait here: what httpx's pool takes is not told
        self._cut = Cut(texts_per_request, images_per_request, bytes_per_request)

    @property
    def url(self) -> str:
        """Of the service."""
        return str(self._http.base_url)

    @property
    def sends_key(self) -> bool:
        """Whether a key goes with each request, given here or found around."""
        return "Authorization" in self._http.headers

    def _timeout(self, deadline: Deadline) -> httpx.Timeout:
        """Of one attempt."""
        return timeout_of(deadline.shorten(self._timeout_s))

    def _failed(
        self, ask: Ask, attempt: int, outcome: httpx.Response | httpx.TransportError, deadline: Deadline
    ) -> tuple[RecoError, float | None]:
        """How the `attempt`-th attempt failed, and seconds until the next, of which is told; None: there is none."""
        failure: RecoError
        if isinstance(outcome, httpx.Response):
            failure = error_of(outcome, ask.places_in_call)
        else:
            failure = ConnectionFailed.of(outcome, self._http.base_url)
        wait_s = self._retries.wait_s(attempt, failure, repeatable=ask.repeatable)
        if wait_s is not None and deadline.is_over_after(wait_s):
            wait_s = None
        if wait_s is not None and self._on_retry is not None:
            self._on_retry(failure, attempt, wait_s)
        return failure, wait_s


def _check_seconds(name: str, seconds: float) -> None:
    """Refuse what nobody can wait for, before it is told as a service that does not answer.

    Raises:
        ValueError: none, fewer, or no end of them.
        TypeError: no number.
    """
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name} is a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds}: 600 is patient")
