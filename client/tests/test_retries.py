"""When the client tries again and when it gives up, against a real server that misbehaves on purpose."""

import asyncio
import io
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from reco_client import (
    AnswerInvalid,
    AsyncClient,
    Client,
    ConnectionFailed,
    NotAuthorised,
    Overloaded,
    RequestRefused,
    Retries,
    ServiceFailed,
)

QUICK = Retries(first_s=0.01, longest_s=0.02)


@dataclass
class Reply:
    """One answer; `cut` hangs up without any."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay_s: float = 0.0


class Scripted:
    """Answers request after request with `script(number)`, and keeps their bodies, keys and times."""

    def __init__(self, script: Callable[[int], Reply]) -> None:
        self.bodies: list[bytes] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
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
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[int], Reply]], Scripted]]:
    """Start a scripted server; all are stopped at the end."""
    running: list[tuple[Scripted, threading.Thread]] = []

    def start(script: Callable[[int], Reply]) -> Scripted:
        one = Scripted(script)
        thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((one, thread))
        return one

    yield start
    for one, thread in running:
        one.server.shutdown()
        thread.join()
        one.server.server_close()


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


def threads_of_clients() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reco-client")]


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


@both
@pytest.mark.parametrize(
    "failure", [problem(503, "queue_full"), problem(429, "rate"), problem(504, "deadline_exceeded"), Reply(cut=True)]
)
def test_what_passes_is_waited_for(scripted: Any, kind: str, failure: Reply) -> None:
    server = scripted(lambda number: failure if number < 3 else npy())
    found = call(kind, server.url, retries=QUICK)
    assert (found.vectors.shape, found.memory_version, len(server.times)) == ((1, 4), 3, 4)


@both
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_a_balancer_says_while_no_service_answers_is_waited_for(scripted: Any, kind: str, status: int) -> None:
    server = scripted(lambda number: Reply(status, b"<html>Bad gateway</html>") if number < 2 else npy())
    found = call(kind, server.url, retries=QUICK)
    assert (found.vectors.shape, len(server.times)) == ((1, 4), 3)
    server = scripted(lambda number: Reply(status, b"<html>Bad gateway</html>"))
    with pytest.raises(ConnectionFailed, match=f"HTTP {status} from .*balancer"):
        call(kind, server.url, retries=Retries(attempts=2, first_s=0.01))


@both
def test_a_balancers_retry_after_is_obeyed_and_what_may_have_arrived_is_not_repeated(scripted: Any, kind: str) -> None:
    gone = Reply(503, b"<html>", {"Retry-After": "0.4"})
    server = scripted(lambda number: npy() if number else gone)
    call(kind, server.url, retries=QUICK)
    assert 0.4 <= server.times[1] - server.times[0] < 1.5
    server = scripted(lambda number: Reply(502, b"<html>"))
    with Client(server.url, retries=QUICK) as client, pytest.raises(ConnectionFailed):
        client.add_pairs([b"x"], name="puffin")
    assert len(server.times) == 1


@both
def test_retry_after_is_obeyed(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy() if number else problem(503, "queue_full", retry_after="0.4"))
    call(kind, server.url, retries=QUICK)
    assert 0.4 <= server.times[1] - server.times[0] < 1.5


@both
def test_asked_for_too_much_patience_it_gives_up(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(429, "rate_limited", retry_after="3600"))
    with pytest.raises(Overloaded) as failed:
        call(kind, server.url)
    assert (failed.value.retry_after_s, len(server.times)) == (3600, 1)


@both
def test_after_the_last_attempt_the_error_is_told(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(503, "not_ready", reason="starting"))
    with pytest.raises(Overloaded, match=r"not_ready \(503\): It is so\. reason: starting\. \[request r1\]") as failed:
        call(kind, server.url, retries=Retries(attempts=3, first_s=0.01))
    assert (failed.value.told, failed.value.request_id, len(server.times)) == ({"reason": "starting"}, "r1", 3)


@both
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(422, "text_empty"), RequestRefused),
        (problem(413, "body_too_large"), RequestRefused),
        (problem(401, "key_missing"), NotAuthorised),
        (problem(403, "scope_missing"), NotAuthorised),
        (problem(500, "internal_error"), ServiceFailed),
        (Reply(500, b"<html>Oops</html>"), AnswerInvalid),
        (Reply(404, {"detail": "Not Found"}), AnswerInvalid),
        (Reply(200, b"<html>"), AnswerInvalid),
    ],
)
def test_what_waiting_cannot_cure_is_told_at_once(scripted: Any, kind: str, reply: Reply, error: type) -> None:
    server = scripted(lambda number: reply)
    with pytest.raises(error):
        call(kind, server.url, retries=QUICK)
    assert len(server.times) == 1


@both
def test_nobody_there(kind: str) -> None:
    started, told = time.monotonic(), list[tuple[Any, ...]]()
    retries = Retries(attempts=3, first_s=0.01)
    with pytest.raises(ConnectionFailed, match=r"no answer from http://127\.0\.0\.1:9") as failed:
        call(kind, "http://127.0.0.1:9", retries=retries, on_retry=lambda *told_of: told.append(told_of))
    assert time.monotonic() - started < 5
    assert [attempt for _, attempt, _ in told] == [1, 2], "before each wait, and not at the end"
    assert {str(failure) for failure, _, _ in told} == {str(failed.value)}
    assert sum(wait_s for _, _, wait_s in told) <= retries.in_all_s == pytest.approx(0.03)


@both
def test_a_slow_service_is_a_failed_connection(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: Reply(delay_s=0.5))
    with pytest.raises(ConnectionFailed):
        call(kind, server.url, timeout_s=0.1, retries=Retries(attempts=1))


@both
def test_a_connection_that_is_cut_says_so(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: Reply(cut=True))
    with pytest.raises(ConnectionFailed, match=r"no answer from http://[\d.:]+: \w.+\. Is the service running"):
        call(kind, server.url, retries=Retries(attempts=1))


def test_a_failure_without_words_is_told_by_its_name() -> None:
    assert ": ReadError. Is" in str(ConnectionFailed.of(httpx.ReadError(""), httpx.URL("http://host")))


@both
def test_a_deadline_ends_attempts_and_waits(scripted: Any, kind: str) -> None:
    full = scripted(lambda number: problem(503, "queue_full", retry_after="0.2"))
    started = time.monotonic()
    with pytest.raises(Overloaded):
        call(kind, full.url, deadline_s=0.5, retries=Retries(attempts=99, first_s=0.01))
    assert time.monotonic() - started < 1.5
    assert len(full.times) in (1, 2, 3), "no wait is begun that outlasts it"
    silent = scripted(lambda number: Reply(delay_s=2))
    started = time.monotonic()
    with pytest.raises(ConnectionFailed):
        call(kind, silent.url, deadline_s=0.3)
    assert time.monotonic() - started < 1.5


@both
def test_a_deadline_that_is_kept_changes_nothing(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy() if number else problem(503, "queue_full"))
    assert call(kind, server.url, deadline_s=30, retries=QUICK).vectors.shape == (1, 4)


@both
def test_headers_go_along_and_a_key_has_no_blank_around_it(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy())
    call(kind, server.url, api_key=" secret\n", headers={"X-Tenant": "birds"})
    assert server.keys == ["Bearer secret"]
    call(kind, server.url, api_key="secret", headers={"Authorization": "Basic of-a-gateway"})
    assert server.keys[1:] == ["Basic of-a-gateway"]


def test_texts_may_have_to_be_awaited(scripted: Any) -> None:
    server = scripted(lambda number: npy(2 if number < 2 else 1))

    async def texts() -> AsyncIterator[str]:
        for number in range(5):
            await asyncio.sleep(0)
            yield f"text {number}"

    async def ask() -> Any:
        async with AsyncClient(server.url, texts_per_request=2, in_flight=1) as client:
            return await client.embed_texts(texts())

    assert asyncio.run(ask()).vectors.shape == (5, 4)
    assert [len(json.loads(body)["texts"]) for body in server.bodies] == [2, 2, 1]


def test_waits_double_and_never_fall_in_step() -> None:
    retries, failure = Retries(attempts=9, first_s=1, longest_s=4), ConnectionFailed()
    for attempt, whole in zip(range(1, 9), (1, 2, 4, 4, 4, 4, 4, 4), strict=True):
        waits = [retries.wait_s(attempt, failure) for _ in range(50)]
        assert all(wait is not None and whole / 2 <= wait <= whole for wait in waits)
        assert len(set(waits)) > 40
    assert retries.wait_s(9, failure) is None


def test_what_may_have_arrived_is_not_repeated_where_that_would_matter() -> None:
    assert Retries().wait_s(1, ConnectionFailed(), repeatable=False) is None
    assert Retries().wait_s(1, Overloaded("queue_full", 503, ""), repeatable=False) is not None


@both
def test_the_key_goes_along(scripted: Any, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = scripted(lambda number: npy())
    call(kind, server.url, api_key="given")
    monkeypatch.setenv("RECO_API_KEY", "environment")
    call(kind, server.url)
    monkeypatch.delenv("RECO_API_KEY")
    (tmp_path / "key").write_text("file\n")
    monkeypatch.setenv("RECO_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("RECO_URL", server.url)
    call(kind, "")
    assert server.keys == ["Bearer given", "Bearer environment", "Bearer file"]


@both
def test_no_more_is_taken_of_a_stream_than_is_under_way(scripted: Any, kind: str) -> None:
    taken = itertools.count()
    server = scripted(lambda number: npy(2))
    texts = (f"text {number}" for number in taken)  # without end

    if kind == "sync":
        with Client(server.url, in_flight=3, texts_per_request=2) as client:
            stream = client.stream_texts(texts)
            parts = [next(stream) for _ in range(5)]
            stream.close()  # type: ignore[attr-defined]
    else:

        async def ask() -> Any:
            async with AsyncClient(server.url, in_flight=3, texts_per_request=2) as client:
                stream: Any = client.stream_texts(texts)
                found = [await anext(stream) for _ in range(5)]
                await stream.aclose()
                return found

        parts = asyncio.run(ask())
    assert [part.vectors.shape for part in parts] == [(2, 4)] * 5
    assert next(taken) <= (5 + 3) * 2 + 1
    assert server.most_at_once <= 3
    assert not threads_of_clients()


def test_a_stream_that_nobody_reads_on_is_not_tried_again(scripted: Any) -> None:
    def by_text(number: int) -> Reply:  # two are sent at once, and either may arrive first
        return npy(1) if b"text 0" in server.bodies[number] else problem(503, "queue_full")

    server = scripted(by_text)
    waits = Retries(attempts=99, first_s=0.3, longest_s=0.3)
    with Client(server.url, in_flight=2, texts_per_request=1, retries=waits) as client:
        stream = client.stream_texts(f"text {number}" for number in range(9))
        next(stream)
        assert threads_of_clients()
        started = time.monotonic()
        stream.close()  # type: ignore[attr-defined]
        assert time.monotonic() - started < 5
    assert not threads_of_clients()  # a program would wait for them at its end
