"""From bytes to requests: uvicorn's httptools protocol, whose parser is Node's llhttp, a little stricter.

It has no bound for a header block, a chunk's trimmings or the requests sent ahead, and it takes HTTP/0.9, any number of
Hosts, and trailers as if they were headers. Depends on uvicorn, httptools, exchange and head.
"""

import asyncio
import enum
import re
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.door.exchange import Exchange
from service.door.head import Framing, Refused, check_head, split_authority, split_target, without_upgrade

_SLICE: Final = 4096  # bytes parsed at once where a request may end: so much of what is sent ahead is taken apart
_METHOD = re.compile(rb"[\w!#$%&'*+.^`|~-]{1,32} ")  # a token, as all methods are; llhttp knows 34 of them


class Place(enum.Enum):
    """Where in a request its bytes have come to."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2


class Requests(HttpToolsProtocol):
    """The requests of one connection, parsed one after the other as they are answered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = Place.BETWEEN
        self._number = 0  # of requests begun
        self._framing = Framing()
        self._left = 0  # bytes of a body of known length that have not come
        self._again = b""  # a head to be read once more; see `without_upgrade`
        self._ahead = b""  # requests sent before the one under way was answered
        self._running: RequestResponseCycle | None = None
        self._refusal: str | None = None  # to be answered after what is under way; nothing is parsed any more

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way, which need not be the last that was parsed."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        if self._ahead:
            self._ahead += data
            self.flow.pause_reading()  # whoever waits for the client to leave has it read on
            return
        self._parse(data)

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead."""
        super().on_response_complete()
        if self.transport.is_closing() or self._answering:
            return
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._unset_keepalive_if_required()
            self._parse(ahead)
        elif self._refusal is not None:
            self._answer(self._refusal)

    def _answer(self, code: str) -> None:
        """Answer for the app, and close."""
        raise NotImplementedError

    def _parse(self, data: bytes) -> None:
        """Parse bytes, until a request is complete that is not answered yet; the rest waits as it is."""
        at = 0
        while at < len(data):
            if self._answering and self._place is Place.BETWEEN:
                self._ahead = data[at:]
                self.flow.pause_reading()
                return
            size = max(_SLICE, self._left)
            part = data if at == 0 and len(data) <= size else data[at : at + size]
            before, body_bytes = (self._number, self._place), self._framing.body_bytes
            try:
                at += self._feed(part)
                if before == (self._number, self._place):
                    self._framing.check(len(part) - (self._framing.body_bytes - body_bytes))
            except Refused as refused:
                self._refuse(refused.code)
                return

    def _feed(self, part: bytes) -> int:
        """How many bytes the parser took: all of them, but for a request that wishes for another protocol.

        Raises:
            Refused: this is no request that we take.
        """
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            took = int(upgrade.args[0])
        except httptools.HttpParserInvalidMethodError:
            raise Refused("method_not_allowed" if _METHOD.match(part) else "request_invalid") from None
        except httptools.HttpParserCallbackError as error:
            raise Refused.behind(error) from None
        except httptools.HttpParserError:
            raise Refused("request_invalid") from None
        else:
            return len(part)
        again, self._again = self._again, b""
        if again:  # not in the handler above: what a callback raised would have the wish as its context
            self._feed(again)
        return took

    def _refuse(self, code: str) -> None:
        """Answer what cannot be parsed, after what came before it."""
        if self.pipeline and self.pipeline[0][0] is self.cycle and self._place is Place.BODY:
            self.pipeline.popleft()  # its own answer is the refusal
        elif not self._answering or (self._place is Place.BODY and self._running is self.cycle):
            self._answer(code)
            return
        self._refusal = code
        self.flow.pause_reading()

    # What the parser calls
    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._place = Place.HEAD
        self._number += 1
        self._left = 0
        self._framing.begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; a trailer is dropped: nobody has checked it, and the request has begun."""
        if self._place is Place.HEAD:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """Check the head, and begin to answer."""
        version = self.parser.get_http_version()
        self._left = check_head(version, self.url, self.headers)
        if self.parser.should_upgrade():
            self._again = without_upgrade(self.parser.get_method(), self.url, version, self.headers)
            if self._again:
                return
        host, target = split_authority(self.url)
        if host is not None:  # it counts, whatever the header says
            self.headers[:] = [(b"host", host), *((name, value) for name, value in self.headers if name != b"host")]
        self._place = Place.BODY
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"], self.scope["raw_path"], self.scope["query_string"] = split_target(target)
        waits = self._answering
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if waits:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def on_chunk_header(self) -> None:
        """One more chunk."""
        self._framing.chunks += 1

    def on_body(self, body: bytes) -> None:
        """A part of a body; of what is answered already, nothing is kept."""
        self._left -= len(body)
        self._framing.add(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request ends."""
        if self._again:
            return
        self._place = Place.BETWEEN
        super().on_message_complete()
        if self.cycle.response_complete and not self.cycle.keep_alive:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.transport.is_closing():
            return  # sent behind the last request of the connection
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        return False  # HTTP lets a server ignore the wish
