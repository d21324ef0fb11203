"""The connection: how long a request may take to arrive and an answer to be read, and refusals of what is no request.

uvicorn has no deadline for either. What is refused here never reaches the app; it is logged and counted all the same.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.door.frame import answer_problem, identify, new_id
from service.door.parsing import Place, Requests
from service.observing.logs import log_request
from service.observing.metrics import UNMATCHED
from service.problems import KINDS, REJECTIONS, Problem, problem_response

if TYPE_CHECKING:
    from service.lifecycle import Service

_TICK_S: Final = 0.01  # loops keep time in milliseconds
_LEFTOVER_S: Final = 5.0  # for the rest of a body that was answered before it was whole
_LAST_S: Final = 0.25  # for a request that is on its way when the end comes


class Connection(Requests):
    """One client connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service: Service = self.config.app.state.service  # type: ignore[union-attr]
        self._deadline: asyncio.TimerHandle | None = None
        self._watched: tuple[int, Place, bool, bool] | None = None  # what the deadline, or its absence, is for
        self._unread: asyncio.TimerHandle | None = None
        self._read_by = 0.0  # when the client must have taken what was written last
        self._reading: RequestResponseCycle | None = None  # whose answer, sent in parts, that is the time of
        self._idle: dict[Connection, None] = self.config.idle  # type: ignore[attr-defined]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give a new connection so long to send its first request."""
        super().connection_made(transport)
        if len(self.connections) > self._service.settings.max_connections and not self._make_room():
            self._answer("too_many_connections")
            return
        self._arm(_LAST_S if self._ending else self._service.settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._disarm()
        if self._unread is not None:
            self._unread.cancel()
        self._unset_keepalive_if_required()  # uvicorn's own stays where a client resets, and holds all of this
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the deadline of a request begins with its first ones, and more of them do not move it."""
        before = self._place
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._watch()
        if before is Place.BODY and self._place is Place.BETWEEN and not self._answering:
            # The end of a body that was answered before it: what uvicorn armed after the answer is gone.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._rest()

    @property
    def _ending(self) -> bool:
        """Whether the server accepts nothing more, so that each connection has one answer left."""
        return self.config.ending  # type: ignore[attr-defined,no-any-return]

    def shutdown(self) -> None:
        """Take no request but one that is on its way: closed at once, the connection would be reset under it."""
        if self._answering:
            super().shutdown()
        elif self._place is Place.BETWEEN:
            self._arm(_LAST_S)

    def pause_writing(self) -> None:
        """An answer in parts has its time from the first one that the client leaves waiting: it may never end."""
        super().pause_writing()
        if self._reading is not self._running or self._unread is None:
            self._reading = self._running
            self._expect_reading()

    def on_response_complete(self) -> None:
        """The answer is to be read in time; who was answered before it had sent everything has little for the rest."""
        self._expect_reading()  # first: what follows may begin with the next request
        super().on_response_complete()
        if not self.transport.is_closing():
            self._watch()
            self._rest()

    def _rest(self) -> None:
        """Between two requests: idle, if its client has taken all of its answer; after blank lines not for long."""
        if self._place is not Place.BETWEEN or self._answering or self._deadline is not None:
            return
        if self.timeout_keep_alive_task is None:
            self._arm(self._service.settings.header_timeout_s)
        elif not self.transport.get_write_buffer_size():
            self._idle[self] = None

    def _unset_keepalive_if_required(self) -> None:
        self._idle.pop(self, None)
        super()._unset_keepalive_if_required()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.keep_alive = cycle.keep_alive and not self._ending
        super()._start_asgi_task(cycle, app)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its next request; False if none waits."""
        longest = next((one for one in self._idle if not one.transport.is_closing()), None)
        if longest is None:
            return False
        longest.transport.close()
        return True

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore the header, as HTTP allows: two warnings a request are a way to fill a disk."""

    def _watch(self) -> None:
        """Let the deadline follow from the head to the body to nothing."""
        latest = self._running is self.cycle
        now = self._number, self._place, self._answering, latest
        if now == self._watched:
            return
        settings = self._service.settings
        if self._place is Place.BODY and latest:
            self._arm(settings.receive_timeout_s if self._answering else _LEFTOVER_S)
        elif not self._answering and self._place is Place.HEAD:
            self._arm(settings.header_timeout_s)
        elif self._number:
            self._disarm()
        self._watched = now

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        """Give the client its time for what was written last. Neither `close` nor uvicorn's `drain` ever gives up."""
        self._read_by = self.loop.time() + self._service.settings.send_timeout_s
        if self._unread is None:  # one timer for many answers
            self._unread = self.loop.call_at(self._read_by, self._cut_unread)

    def _cut_unread(self) -> None:
        """Drop a connection with what its client has not taken: until then both are held."""
        self._unread = None
        if not self.transport.get_write_buffer_size():
            return
        if self.loop.time() < self._read_by - _TICK_S:
            self._unread = self.loop.call_at(self._read_by, self._cut_unread)
            return
        self._service.metrics.unread.inc()
        self.transport.abort()

    def _too_slow(self) -> None:
        self._deadline = None
        if self._place is Place.BETWEEN:
            self.transport.close()  # it never said a word
        else:
            self._answer("receive_timeout")

    def _answer(self, code: str) -> None:
        """Answer for the app, if it has not begun to, and close."""
        if self.transport.is_closing():
            return
        if self._place is Place.BODY and self.cycle.response_complete:
            self.transport.close()  # it has its answer: of what is wrong with the rest a second would be the next one's
            return
        running = self._running if self._answering else None
        if running is None:
            request_id = new_id()
            self._write(problem_response(Problem(code), request_id), request_id)
            self._report(code, request_id)
        else:
            scope: Any = running.scope
            request_id = identify(scope)  # its own log line tells it, and the code
            response = answer_problem(Request(scope), Problem(code))
            if not running.response_started:
                self._write(response, request_id)
        self._expect_reading()
        self.transport.close()

    def _write(self, response: Response, request_id: str) -> None:
        status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}\r\n"
        fields = {**response.headers, "x-request-id": request_id, "connection": "close"}
        head = status + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(f"{head}\r\n".encode("latin-1") + bytes(response.body))

    def _report(self, code: str, request_id: str) -> None:
        metrics, status = self._service.metrics, KINDS[code].status
        metrics.count_problem(code)
        metrics.observe_request(UNMATCHED, "other", status, 0.0)
        log = self._service.refusal_log.log if code in REJECTIONS else log_request
        log(request_id=request_id, endpoint=UNMATCHED, status=status, code=code)
