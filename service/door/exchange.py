"""One request and its answer. As uvicorn's, but head and body leave in one write: a system call and a packet less.

Depends on uvicorn only.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_BODILESS = (204, 304)


class Exchange(RequestResponseCycle):
    """What the app receives from and sends to."""

    _head: bytes | None = None  # of the answer, until its body begins

    async def send(self, message: Any) -> None:
        """See ASGI.

        Raises:
            RuntimeError: the app sent what it may not: a bug of ours.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete or (message["type"] == "http.response.start") == (self._head is not None):
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}'.")
        if self._head is None:
            self._head = self._render_head(message["status"], message.get("headers", ()))
            return
        more = message.get("more_body", False)
        parts = self._framed(message.get("body", b""), more=more)
        if not self.response_started:
            self.response_started, self.waiting_for_100_continue = True, False
            parts = (self._head, *parts)
        self.transport.writelines(parts)
        if not more:
            self._complete()

    def _render_head(self, status: int, headers: Any) -> bytes:
        content = [STATUS_LINE[status]]
        named_close = False
        for name, value in (*self.default_headers, *headers):
            if b"\r" in value or b"\n" in value or b"\0" in value:
                raise RuntimeError("Invalid HTTP header value.")
            lower = name.lower()
            if lower == b"content-length":
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif lower == b"connection" and b"close" in value.lower():
                self.keep_alive, named_close = False, True
            content += (lower, b": ", value, b"\r\n")
        if not self.keep_alive and not named_close:
            content.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _BODILESS:
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n")
        return b"".join(content)

    def _framed(self, body: bytes, *, more: bool) -> tuple[bytes, ...]:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            return ()
        if self.chunked_encoding:
            chunk = (b"%x\r\n" % len(body), body, b"\r\n") if body else ()
            return chunk if more else (*chunk, b"0\r\n\r\n")
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (self.expected_content_length and not more):
            raise RuntimeError("The body of the answer is not as long as its Content-Length.")
        return (body,)

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive and not self.more_body:  # else when the body ends: TCP would reset who is still sending
            self.transport.close()
        self.on_response()
