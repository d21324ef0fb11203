"""How the service ends: who reaches it until then is answered, and nobody holds it up."""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.app import create_app
from service.pipeline.engine import Engine
from service.serving import _Server, server_config

BODY = b'{"texts": "a bird"}'
REQUEST = (
    b"POST /embed/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)


class Ended:
    """A server of its own thread, to be ended by the test."""

    def __init__(self, settings: Any, engine: Engine) -> None:
        self.app = create_app(settings, engine)
        self.server = _Server(server_config(self.app, settings))
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.server.serve()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.server.servers[0].sockets[0].getsockname()[:2], timeout=10)

    def end(self) -> None:
        """Close the port, on the next tick of the server."""
        self.server.should_exit = True


@contextmanager
def ended(settings: Any, engine: Engine) -> Iterator[Ended]:
    one = Ended(settings, engine)
    one.thread.start()
    try:
        until = time.monotonic() + 30
        while not (one.server.started and one.app.state.service.reason is None) and time.monotonic() < until:
            time.sleep(0.01)
        yield one
    finally:
        one.end()
        one.thread.join(30)
    assert not one.thread.is_alive()


def answer_of(client: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    with client, client.makefile("rb") as file:
        return file.read()


def test_a_request_that_is_on_its_way_at_the_end_is_answered(make_settings: Any, engine: Engine) -> None:
    with ended(make_settings(), engine) as one:
        client, kept = one.connect(), one.connect()
        kept.sendall(REQUEST)
        assert kept.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.05)
        one.loop.call_soon_threadsafe(one.end)
        while one.server.servers[0].sockets:
            time.sleep(0.001)
        client.sendall(REQUEST)
        kept.sendall(REQUEST)
        answers = answer_of(client), answer_of(kept)
    assert [answer.count(b"HTTP/1.1 200") for answer in answers] == [1, 1]
    assert all(b"connection: close" in answer.lower() for answer in answers)


def test_who_has_reached_the_port_at_the_end_is_accepted(make_settings: Any, engine: Engine) -> None:
    clients: list[socket.socket] = []

    def end_behind(server: Ended) -> None:
        server.end()
        for _ in range(8):  # the kernel takes them; the loop, which runs this, cannot yet
            clients.append(server.connect())
            clients[-1].sendall(REQUEST)
        time.sleep(0.2)  # the server's tick is due at once with them

    with ended(make_settings(), engine) as one:
        one.loop.call_soon_threadsafe(end_behind, one)
        while len(clients) < 8:
            time.sleep(0.01)
        answers = [answer_of(client) for client in clients]
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 8


def test_a_drain_without_a_file_for_the_port_ends_all_the_same(
    make_settings: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(number: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with ended(make_settings(), engine) as one:
        monkeypatch.setattr("service.serving.os.dup", dup)
        one.end()
        one.thread.join(10)
        assert not one.thread.is_alive() and one.server.lifespan.should_exit is False


def test_a_connection_without_a_request_does_not_hold_the_end_up(make_settings: Any, engine: Engine) -> None:
    with ended(make_settings(), engine) as one, one.connect() as silent:
        time.sleep(0.05)
        started = time.monotonic()
        one.end()
        assert silent.recv(1) == b""
        one.thread.join(10)
        assert time.monotonic() - started < 3  # not RECO_HEADER_TIMEOUT_S


@pytest.mark.parametrize("sent", [b"", REQUEST[:40]])
def test_the_end_is_the_same_for_whoever_has_begun(make_settings: Any, engine: Engine, sent: bytes) -> None:
    """The rest of a head that is under way is waited for, as long as heads are."""
    with ended(make_settings(), engine) as one:
        client = one.connect()
        client.sendall(sent)
        time.sleep(0.05)
        one.end()
        while one.server.servers[0].sockets:
            time.sleep(0.001)
        client.sendall(REQUEST.removeprefix(sent))
        assert answer_of(client).startswith(b"HTTP/1.1 200")
