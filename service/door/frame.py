"""Around every request: its id, timing, log line and metrics, and the last resort against our own faults.

Plain ASGI, so that streaming and disconnects pass through untouched. Depends on logs, metrics and problems.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.door.receive import ClientLeft
from service.generation import one_generation
from service.observing.logs import RefusalLog, log_request
from service.observing.metrics import UNMATCHED, Metrics
from service.observing.tracing import Ended, Tracing
from service.openai_errors import PREFIX, openai_error_response
from service.problems import KINDS, REJECTIONS, Problem, problem_response

logger = logging.getLogger("reco.http")

_DICE = random.Random()  # seeded by the system; an id is no secret, only different from all others
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_LEFT = 499  # nobody reads it; the log and the metrics need a number


class RequestFrame:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        refusal_log: RefusalLog,
        paths: Collection[str] = (),
        tracing: Tracing | None = None,
    ) -> None:
        """Wrap an app.

        Args:
            app: what is inside, the door first.
            metrics: where requests are counted.
            refusal_log: where refusals are told.
            paths: of routes, without parameters: what the door refuses has come to no route, and is told by these.
            tracing: where spans go; None is nowhere.
        """
        self._app = app
        self._paths = paths
        self._metrics = metrics
        self._tracing = tracing
        self._refusal_log = refusal_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        frame = _Frame(scope, send)
        self._metrics.inflight.inc()
        try:
            with one_generation():
                await self._app(scope, receive, frame.send)
        except ClientLeft:
            code = scope["state"].get("code")  # the connection's, who answers a client that is too slow, and leaves it
            frame.status = KINDS[code].status if code and frame.status == 0 else CLIENT_LEFT
        except asyncio.CancelledError:  # only the end of the process cancels a request: its grace is over
            if frame.status == 0:
                stopping = Problem("not_ready", extensions={"reason": "stopping"})
                await answer_problem(Request(scope), stopping)(scope, receive, frame.send)
        except Exception:
            logger.exception("request %s failed; this is a bug", frame.request_id)
            if frame.status == 0:
                await answer_problem(Request(scope), Problem("internal_error"))(scope, receive, frame.send)
        finally:
            self._metrics.inflight.dec()
            self._report(scope, frame)

    def _report(self, scope: Scope, frame: "_Frame") -> None:
        seconds = time.perf_counter() - frame.started
        route = scope.get("route")
        path: str = scope["path"]
        endpoint: str = getattr(route, "path", path if path in self._paths else UNMATCHED)
        code: str | None = scope["state"].get("code")
        received: float = scope["state"].get("received", 0.0)
        if received:
            self._metrics.observe_stages({"receive": received})
        self._metrics.observe_request(endpoint, scope["method"], frame.status, seconds - received)
        if code is not None:
            self._metrics.count_problem(code)
        if "probes" in getattr(route, "tags", ()) and frame.status == 200:
            return  # one every few seconds would bury the lines that matter; the metrics count them
        traced = {}
        if self._tracing is not None:
            ended = _ended(scope, frame, "" if endpoint == UNMATCHED else endpoint, seconds)
            traced = {"trace_id": self._tracing.record(ended)}
        log = self._refusal_log.log if code in REJECTIONS else log_request
        log(
            request_id=frame.request_id,
            method=scope["method"][:16],
            endpoint=endpoint,
            status=frame.status,
            duration_ms=round(1000 * seconds, 1),
            items=scope["state"].get("items"),
            key=scope["state"].get("key"),
            code=code,
            **traced,
        )


def _ended(scope: Scope, frame: "_Frame", endpoint: str, seconds: float) -> Ended:
    state = scope["state"]
    return Ended(
        method=scope["method"][:16],
        endpoint=endpoint,
        status=frame.status,
        seconds=seconds,
        stages=state.get("timing") or {},
        headers=Headers(scope=scope),
        attributes={"request_id": frame.request_id, "items": state.get("items"), "code": state.get("code")},
    )


def answer_problem(request: Request, problem: Problem) -> Response:
    """The response of a problem, noted for the log line and the metrics."""
    request.scope["state"]["code"] = problem.code
    if request.scope["path"].startswith(PREFIX):
        return openai_error_response(problem)
    return problem_response(problem, request.scope["state"]["request_id"])


class _Frame:
    """What is known of one request: its id, when it began, and the status once it is sent."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id = identify(scope)
        self.started = time.perf_counter()
        self.status = 0
        self._scope = scope
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            fields = message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
            ]
            timing = self._scope["state"].get("timing")
            if timing:
                told = server_timing(timing, time.perf_counter() - self.started)
                fields.append((b"server-timing", told.encode()))
        await self._send(message)


def new_id() -> str:
    """An id for a request that brings none."""
    return f"{_DICE.getrandbits(64):016x}"


def identify(scope: Scope) -> str:
    """The id of a request: its client's own, or one that it keeps from the first time that anybody asks."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        state["request_id"] = _given_id(scope) or new_id()
    request_id: str = state["request_id"]
    return request_id


def _given_id(scope: Scope) -> str | None:
    """The client's own id of the request, if it is one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if _REQUEST_ID.fullmatch(given) else None
    return None


def server_timing(seconds: Mapping[str, float], total: float) -> str:
    """The Server-Timing header: each stage and the whole, in milliseconds."""
    return ", ".join(f"{stage};dur={1000 * value:.2f}" for stage, value in {**seconds, "total": total}.items())
