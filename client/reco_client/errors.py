"""What can go wrong, as a tree:

* RecoError
  x ConnectionFailed    no answer came: refused, cut, too slow, or a balancer found no service to ask
  x AnswerInvalid       an answer came that is not RECO's: a proxy's page, most likely
  * SpaceChanged        the service swapped its fusion or encoder during the call: its vectors cannot be mixed
    x Degraded          it did so for want of its memory: a part of the answers is plain (RECO_MEMORY_AWAY=plain)
  * APIError            the service said no; `code` is stable, `request_id` finds it in its log
    x RequestRefused    4xx: repeating it will not help
    x NotAuthorised     401, 403
    x Overloaded        429, 503, 504: still so after all retries
    x ServiceFailed     any other 5xx

Depends on httpx and results.
"""

# Each is named after what happened; the tree above says that they are errors.
# ruff: noqa: N818

import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from reco_client.results import ItemError

_OF_BALANCERS = frozenset({429, 502, 503, 504})
_TOLD = ("limit", "known_fields", "expected", "reason", "line", "column")
_POINTER = re.compile(r"/(?:images|texts|input)/(\d+)")


class RecoError(Exception):
    """The base of all."""


class ConnectionFailed(RecoError):
    """No answer of the service arrived.

    Attributes:
        retry_after_s: when whoever stands before the service asked to come back.
    """

    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: httpx.TransportError, url: httpx.URL) -> "ConnectionFailed":
        """A failure of the connection to a service."""
        slow = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)  # it was there
        ask = "Is it busy, or timeout_s or deadline_s too short?" if slow else "Is the service running, and reachable?"
        what = str(error).rstrip(".") or type(error).__name__
        return cls(f"no answer from {url}: {what}. {ask}")

    @classmethod
    def before(cls, response: httpx.Response) -> "ConnectionFailed":
        """What a balancer or proxy answers where no service behind it does, as while a replica starts again."""
        failure = cls(
            f"HTTP {response.status_code} from {response.url}, in a form that is none of RECO's: from a balancer, most "
            "likely, that finds no service to ask. Is one running behind it?"
        )
        failure.retry_after_s = _retry_after_s(response)
        return failure


class AnswerInvalid(RecoError):
    """What arrived is not an answer of RECO."""


class SpaceChanged(RecoError):
    """Vectors of one call come from two vector spaces, and are not comparable."""


class Degraded(SpaceChanged):
    """The memory went away, or came back, during the call: one part is refined and the other is not."""


class APIError(RecoError):
    """An answer that says no.

    Attributes:
        code: stable, for programs; the service's /docs lists all.
        status: the HTTP status.
        detail: one sentence, for people.
        request_id: what the service's log calls this request.
        items: the bad inputs by their place in the call, if there are such.
        pointers: where else in the request the fault lies, as JSON pointers.
        told: every other member of the answer (`limit`, `known_fields`, `expected`, `reason`, `line`).
        retry_after_s: when the service asked to come back.
    """

    def __init__(
        self,
        code: str,
        status: int,
        detail: str,
        *,
        request_id: str = "",
        items: Sequence[ItemError] = (),
        pointers: Sequence[str] = (),
        told: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.code, self.status, self.detail, self.request_id = code, status, detail, request_id
        self.items, self.pointers, self.retry_after_s = tuple(items), tuple(pointers), retry_after_s
        self.told = dict(told or {})
        super().__init__(self._sentence())

    def __reduce__(self) -> Any:
        """To another process: made again by its sentence, and then given what it says."""
        return type(self).__new__, (type(self), *self.args), self.__dict__

    def _sentence(self) -> str:
        parts = [f"{self.code} ({self.status}): {self.detail}"]
        if self.items:
            more = f" and {len(self.items) - 1} more" if len(self.items) > 1 else ""
            parts.append(f"Input {self.items[0].index}{more}.")
        elif self.pointers:
            parts.append(f"At {', '.join(self.pointers)}.")
        parts += [f"{name}: {value}." for name, value in self.told.items()]
        if self.status == 429 and self.retry_after_s is not None:
            parts.append(f"It asks to come back in {self.retry_after_s:g} s.")
        return " ".join([*parts, f"[request {self.request_id}]"])


class RequestRefused(APIError):
    """4xx."""


class NotAuthorised(APIError):
    """401 or 403: no key, a wrong one, or one without the scope."""


class Overloaded(APIError):
    """429, 503 or 504, also after the retries."""


class ServiceFailed(APIError):
    """A 5xx that waiting does not cure."""


def error_of(response: httpx.Response, places: Sequence[int] = ()) -> RecoError:
    """The error that an answer other than 2xx stands for.

    Args:
        places: in the call, of the inputs of the request.
    """
    try:
        body = response.json()
        code, detail = str(body["code"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        if response.status_code in _OF_BALANCERS:
            return ConnectionFailed.before(response)
        return AnswerInvalid(
            f"HTTP {response.status_code} from {response.url}, and the body is none of RECO's. Is the address right?"
        )
    errors = [error for error in _list_of(body.get("errors")) if isinstance(error, dict)]
    items, pointers = [], []
    for error in errors:
        pointer = str(error.get("pointer", ""))
        found = _POINTER.fullmatch(pointer)
        if found and int(found[1]) < len(places):
            items.append(ItemError(places[int(found[1])], str(error.get("code")), str(error.get("detail"))))
        elif pointer:
            pointers.append(pointer)
    if code == "body_too_large" and len(places) == 1:  # the service did not read what it refuses
        items.append(ItemError(places[0], code, detail))
    elif code == "body_too_large" and places:
        smaller = "send fewer at a time (bytes_per_request, texts_per_request)"
        detail += f" Inputs {places[0]} to {places[-1]} are too much for one request: {smaller}."
    told = {name: body[name] for name in _TOLD if body.get(name) is not None}
    return _class_of(response.status_code)(
        code,
        response.status_code,
        detail,
        request_id=response.headers.get("x-request-id", ""),
        items=items,
        pointers=pointers,
        told=told,
        retry_after_s=_retry_after_s(response),
    )


def _class_of(status: int) -> type[APIError]:
    if status in (401, 403):
        return NotAuthorised
    if status in (429, 503, 504):
        return Overloaded
    return RequestRefused if status < 500 else ServiceFailed


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds; RECO sends a number, and a date that a proxy may send is as good as nothing."""
    value = response.headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"\d{1,6}(\.\d+)?", value) else None


def _list_of(told: Any) -> list[Any]:
    return told if isinstance(told, list) else []
