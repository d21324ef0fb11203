"""The connection: how long a request may take to arrive and an answer to be read, and what of HTTP/1.1 is accepted.

On uvicorn's h11 protocol. It has no deadline for either, and h11 takes header blocks of any size that arrive in one
read, lines that end in a bare LF, and Content-Length beside Transfer-Encoding, which two servers in a row may read as
two different requests. What is refused here never reaches the app; it is logged and counted all the same.
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.observing.logs import log_request
from service.observing.metrics import UNMATCHED
from service.problems import KINDS, MEDIA_TYPE, Problem, problem_response

if TYPE_CHECKING:
    from service.lifecycle import Service

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
_FREE_CHUNKS: Final = 1024  # beyond them, chunks must be worth their cost: parsing one takes microseconds
_MIN_CHUNK_BYTES: Final = 128
_LEFTOVER_S: Final = 5.0  # for the rest of a body that was answered before it was whole
_UNSAFE_LINE_END = re.compile(rb"(?<!\r)\n|\r\n[ \t]")


class Refusing(h11.Connection):
    """h11's connection, a little stricter. `refusal` is the code of what it refused."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self.refusal = "request_invalid"
        self._chunks = 0
        self._bytes = 0

    def next_event(self) -> Any:
        """See h11. Raises RemoteProtocolError for what is refused."""
        if self.their_state is h11.IDLE:
            self._check_lines(self.trailing_data[0])
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                self.refusal = "headers_too_large"
            raise
        if isinstance(event, h11.Request):
            self._check_headers(event)
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._check_chunk(event)
        return event

    def _check_lines(self, received: bytes) -> None:
        end = received.find(b"\r\n\r\n")
        if _UNSAFE_LINE_END.search(received if end < 0 else received[: end + 2]):
            self._refuse("request_invalid")

    def _check_headers(self, request: h11.Request) -> None:
        headers = list(request.headers)
        names = [name for name, _ in headers]
        size = len(request.target) + sum(len(name) + len(value) for name, value in headers)
        if len(names) > MAX_HEADERS or size > MAX_HEADER_BYTES:
            self._refuse("headers_too_large")
        if b"content-length" in names and b"transfer-encoding" in names:
            self._refuse("request_invalid")
        if any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers):
            self._refuse("request_invalid")

    def _check_chunk(self, event: h11.Data) -> None:
        self._bytes += len(event.data)
        self._chunks += event.chunk_start
        if self._chunks > _FREE_CHUNKS and self._bytes < self._chunks * _MIN_CHUNK_BYTES:
            self._refuse("chunks_too_small")

    def _refuse(self, code: str) -> None:
        self.refusal = code
        raise h11.RemoteProtocolError(code)


class Connection(H11Protocol):
    """One client connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: Refusing = Refusing()
        self._service: Service = self.config.app.state.service  # type: ignore[union-attr]
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give a new connection so long to send its first request."""
        super().connection_made(transport)
        if len(self.connections) > self._service.settings.max_connections:
            self._answer("too_many_connections")
            return
        self._arm(self._service.settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._disarm()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the deadline of a request begins with its first one, and more of them do not move it."""
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self._deadline is None:
            self._arm(self._service.settings.header_timeout_s)
        super().data_received(data)

    def handle_events(self) -> None:
        """Let the deadline follow from the header to the body to nothing."""
        before = self.conn.their_state
        super().handle_events()
        after = self.conn.their_state
        if after is h11.SEND_BODY and before is not h11.SEND_BODY:
            self._arm(self._service.settings.receive_timeout_s)
        elif after is not h11.SEND_BODY and (after is not h11.IDLE or before is not h11.IDLE):
            self._disarm()

    def on_response_complete(self) -> None:
        """The answer is to be read in time; who was answered before it had sent everything has little for the rest."""
        self._expect_reading()  # first: what follows may begin with the next request
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._arm(_LEFTOVER_S)

    def send_400_response(self, msg: str) -> None:
        """Refuse what `Refusing` refused."""
        self._answer(self.conn.refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore the header, as HTTP allows: two warnings a request are a way to fill a disk."""

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        """Give the client its time for what was written last. Neither `close` nor uvicorn's `drain` ever gives up."""
        if self._unread is not None:
            self._unread.cancel()
        self._unread = self.loop.call_later(self._service.settings.send_timeout_s, self._cut_unread)

    def _cut_unread(self) -> None:
        """Drop a connection with what its client has not taken: until then both are held."""
        if self.transport.get_write_buffer_size():
            self._service.metrics.unread.inc()
            self.transport.abort()

    def _too_slow(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.close()  # it never said a word
        else:
            self._answer("receive_timeout")

    def _answer(self, code: str) -> None:
        """Answer for the app, if it has not begun to, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._write(code)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.scope["state"]["code"] = code  # its own log line tells it
        else:
            self._report(code)
        self._expect_reading()
        self.transport.close()

    def _write(self, code: str) -> None:
        response = problem_response(Problem(code), secrets.token_hex(8))
        status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}\r\n"
        fields = {**response.headers, "content-type": MEDIA_TYPE, "connection": "close"}
        head = status + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(f"{head}\r\n".encode("latin-1") + bytes(response.body))

    def _report(self, code: str) -> None:
        metrics, status = self._service.metrics, KINDS[code].status
        metrics.errors.labels(code).inc()
        metrics.observe_request(UNMATCHED, "other", status, 0.0)
        log_request(request_id=secrets.token_hex(8), endpoint=UNMATCHED, status=status, code=code)
