"""A real server that answers as a script says, and the same call through either client."""

import asyncio
import io
import itertools
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from reco_client import AsyncClient, Client, Retries

QUICK = Retries(first_s=0.01, longest_s=0.02)


@dataclass
class Reply:
    """One answer; `cut` hangs up without any, `trickle_s` passes between any two of its ten pieces."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay_s: float = 0.0
    trickle_s: float = 0.0


class Scripted:
    """Answers request after request with `script(number)`, and keeps their bodies, keys and times."""

    def __init__(self, script: Callable[[int], Reply]) -> None:
        self.bodies: list[bytes] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        now, lock = itertools.count(), threading.Lock()
        scripted, open_requests = self, [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with lock:
                    scripted.bodies.append(body)
                    scripted.keys.append(self.headers.get("authorization"))
                    scripted.times.append(time.monotonic())
                    scripted.paths.append(self.path)
                    open_requests[0] += 1
                    scripted.most_at_once = max(scripted.most_at_once, open_requests[0])
                    number = next(now)
                reply = script(number)
                time.sleep(reply.delay_s)
                with lock:
                    open_requests[0] -= 1
                if reply.cut:
                    self.close_connection = True
                    return
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                step = max(1, len(content) // 10) if reply.trickle_s else len(content) or 1
                with suppress(BrokenPipeError, ConnectionResetError):  # nobody reads on
                    for start in range(0, len(content), step):
                        time.sleep(reply.trickle_s)
                        self.wfile.write(content[start : start + step])
                        self.wfile.flush()

            def do_GET(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def problem(status: int, code: str, *, retry_after: str | None = None, **more: Any) -> Reply:
    """A refusal in RECO's form."""
    headers = {"Content-Type": "application/problem+json", "X-Request-ID": "r1"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return Reply(status, {"code": code, "detail": "It is so.", "status": status, **more}, headers)


def npy(count: int = 1) -> Reply:
    """A good answer with `count` rows."""
    file = io.BytesIO()
    np.save(file, np.eye(count, 4, dtype=np.float32))
    headers = {"X-Reco-Space": "s", "X-Reco-Memory-Version": "3", "X-Reco-Model": "m"}
    return Reply(body=file.getvalue(), headers={"Content-Type": "application/x-npy", **headers})


def call(kind: str, url: str, **arguments: Any) -> Any:
    """The same call through one of the clients."""
    if kind == "sync":
        with Client(url, **arguments) as client:
            return client.embed_texts("a")

    async def ask() -> Any:
        async with AsyncClient(url, **arguments) as client:
            return await client.embed_texts("a")

    return asyncio.run(ask())


both = pytest.mark.parametrize("kind", ["sync", "async"])
