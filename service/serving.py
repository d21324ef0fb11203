"""Serving the app with uvicorn: its sockets, its signals, and how it ends.

SIGHUP opens what is new. SIGTERM: unready at once, still accepting while load balancers learn of it, then what is
open finishes, exit code 0. A second one skips that delay, as SIGINT does, and the next one cuts what is open.
"""

import asyncio
import logging
import logging.config
import os
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI

from service import garbage_collection
from service.app import create_app
from service.door.protocol import Connection
from service.lifecycle import Service
from service.observing.logs import logging_config
from service.observing.tracing import open_tracing
from service.open_files import allow_connections
from service.problems import Problem
from service.settings import Settings

logger = logging.getLogger("reco.serving")

_CLOSE = (b"connection", b"close")

_LAST_WORK_S = 5.0  # for threads that nobody waits for, the last lines of the log and the last spans


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, and return; the process ends seconds later at most."""
    logging.config.dictConfig(logging_config(settings.log_format))
    ports = 1 if settings.operator_port is None else 2  # each has as many, so that a crowd at one leaves the other open
    left = allow_connections(ports * settings.max_connections) // ports
    settings = settings.model_copy(update={"max_connections": left})
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        code = 1
        try:
            runner.run(_serve(settings))
            code = 0
        finally:
            _end_within(_LAST_WORK_S, code)


def _end_within(seconds: float, code: int) -> None:
    """End the process by then, whatever a thread is at: Python waits for each, and a load may take hours.

    All that was asked has been answered by now, and a memory changes by whole versions only.
    """
    last = threading.Timer(seconds, os._exit, (code,))
    last.daemon = True
    last.start()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes half the time of asyncio's own; asyncio's where uvloop is not made for (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(settings: Settings) -> None:
    app = create_app(settings, tracing=open_tracing())
    service: Service = app.state.service
    servers = [_Server(server_config(app, settings))]
    if settings.operator_port is not None:
        servers.append(_Server(operator_config(app, settings)))
    ending = Ending(service, servers, delay_s=settings.drain_delay_s, grace_s=settings.graceful_shutdown_s)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.drain)
    loop.add_signal_handler(signal.SIGINT, ending.stop)
    tasks: set[asyncio.Task[None]] = set()  # the loop itself holds a task only weakly

    def begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    loop.add_signal_handler(signal.SIGHUP, lambda: begin(_reload(service)))
    with garbage_collection.by_the_clock():
        garbage = begin(garbage_collection.collect(lambda: service.reason is None, lambda: service.items))
        await asyncio.gather(*(server.serve() for server in servers))
        garbage.cancel()


async def _reload(service: Service) -> None:
    try:
        done, _ = await service.reload_all()
        logger.info("reload: %s", "done" if done.changed else "nothing is new")
    except Problem as problem:
        if problem.code == "reload_in_progress":  # of all others the service has said what is wrong
            logger.warning("reload: one is under way; ask again when it has ended")


class Ending:
    """The way from serving to the end of the process."""

    def __init__(self, service: Service, servers: Sequence[uvicorn.Server], *, delay_s: float, grace_s: float) -> None:
        self._service = service
        self._servers = servers
        self._delay_s = delay_s
        self._grace_s = grace_s

    def drain(self) -> None:
        """Say that it ends, and accept requests until load balancers have heard it; said twice, as `stop`."""
        if self._service.draining:
            self.stop()
            return
        self._service.draining = True
        for server in self._servers:
            if server.config.loaded:  # from the next second on, each answer is the last of its connection:
                server.config.encoded_headers.append(_CLOSE)  # its client finds another replica before this one is gone
        logger.info("draining: not ready from now on, accepting for another %g s", self._delay_s)
        asyncio.get_running_loop().call_later(self._delay_s, self._close)

    def stop(self) -> None:
        """Accept nothing more and finish what is open; said twice, cut it."""
        for server in self._servers:
            server.force_exit = server.should_exit
        self._service.draining = True
        self._close()

    def _close(self) -> None:
        if not any(server.should_exit for server in self._servers):
            _end_within(self._grace_s + 2 * _LAST_WORK_S, 0)  # a decoder that hangs is waited for otherwise
        for server in self._servers:
            server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the signals to us: there may be two servers, and a signal is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the app in any case: uvicorn leaves it to itself where what is open is cut, and logs a traceback."""
        self.config.ending = True  # type: ignore[attr-defined]
        await self._accept_last()
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    async def _accept_last(self) -> None:
        """Close the port, and take who has reached it: the kernel resets whom it still holds with a closed port."""
        held: list[socket.socket] = []
        with suppress(OSError):  # no file for another: the drain goes on without these
            held += (socket.socket(fileno=os.dup(one.fileno())) for server in self.servers for one in server.sockets)
        for server in self.servers:
            server.close()
        arrived = [client for port in held for client in _waiting(port)]
        for port in held:
            port.close()
        loop = asyncio.get_running_loop()
        for client in arrived:
            with suppress(OSError):  # this one has gone already
                await loop.connect_accepted_socket(self._connection, client)

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _waiting(port: socket.socket) -> Iterator[socket.socket]:
    """Connections that are made and not accepted."""
    port.setblocking(False)
    with suppress(OSError):  # none is left, or no file for one
        while True:
            yield port.accept()[0]


class _Config(uvicorn.Config):
    """uvicorn's, and what its connections ask for.

    Attributes:
        idle: those that wait for their next request, the longest first.
        ending: the server accepts nothing more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle: dict[Connection, None] = {}
        self.ending = False


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the app: bounded headers and waits, nothing that the app does not need."""
    return _config(app, settings, host=settings.host, port=settings.port, lifespan="on")


def operator_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """The same app on `RECO_OPERATOR_PORT`: access.py tells the two apart by their port."""
    assert settings.operator_port is not None
    return _config(app, settings, host=settings.operator_host, port=settings.operator_port, lifespan="off")


def _config(
    app: FastAPI, settings: Settings, *, host: str, port: int, lifespan: Literal["on", "off"]
) -> uvicorn.Config:
    return _Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.graceful_shutdown_s,
    )
