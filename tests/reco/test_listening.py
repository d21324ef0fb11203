"""Who listens on a port: a RECO says so of itself, and anything else is not taken for one."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from reco.doctor import _look_at_port
from reco.listening import who_serves


@pytest.fixture
def stranger() -> Iterator[int]:
    """A server that answers everything with JSON that is not ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "ready"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_service_is_known_by_its_answer(serve: Any) -> None:
    with serve() as service:
        at = urlsplit(service.url)
        told = who_serves("127.0.0.1", at.port)
        found = _look_at_port("127.0.0.1", at.port)
    assert told is not None
    assert told.startswith("RECO 0.")
    assert told.endswith("serves there, memory version 1")
    assert (found.state, found.told) == ("good", told)


def test_one_that_is_not_ready_says_why(serve: Any) -> None:
    with serve(engine=None, ready=False, memory="nowhere") as service:
        told = who_serves("127.0.0.1", urlsplit(service.url).port)
    assert told is not None
    assert "not ready: " in told


def test_another_program_is_none_of_ours(stranger: int) -> None:
    assert who_serves("127.0.0.1", stranger) is None
    found = _look_at_port("127.0.0.1", stranger)
    assert (found.state, "Something else" in found.advice) == ("bad", True)


def test_nobody_is_nobody() -> None:
    assert who_serves("127.0.0.1", 1) is None
