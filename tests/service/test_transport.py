"""Sockets that behave badly, against the real server: THREATS §2.1, row by row."""

import gc
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from service.door.protocol import Connection

HEADER_S, RECEIVE_S = 0.5, 1.0
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
POST = b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def hurried(serve: Any) -> Iterator[Any]:
    """A service with short deadlines."""
    with serve(header_timeout_s=HEADER_S, receive_timeout_s=RECEIVE_S, max_connections=200) as service:
        yield service


@contextmanager
def connected(service: Any) -> Iterator[socket.socket]:
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        yield connection


def answer_to(service: Any, *parts: bytes) -> bytes:
    """Everything the server says until it closes; b"" if it only closes."""
    with connected(service) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
            while more := connection.recv(65536):
                said += more
        except (ConnectionResetError, BrokenPipeError):
            pass
        return said


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


def code_of(answer: bytes) -> str:
    found = re.search(rb'"code": ?"(\w+)"', answer)
    return found[1].decode() if found else ""


def counted(service: Any, code: str) -> float:
    found = re.search(rf'reco_errors_total\{{code="{code}"\}} (\S+)', service.client.get("/metrics").text)
    return float(found[1]) if found else 0.0


def total(service: Any, metric: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    series = re.findall(rf"^{metric}(?:{{(.*)}})? (\S+)$", httpx.get(f"{service.url}/metrics").text, re.MULTILINE)
    wanted = {f'{name}="{value}"' for name, value in labels.items()}
    return sum(float(value) for told, value in series if wanted <= set(told.split(",")))


def test_T01_a_silent_connection_is_closed(hurried: Any) -> None:
    started = time.monotonic()
    assert answer_to(hurried) == b""
    assert HEADER_S * 0.9 < time.monotonic() - started < HEADER_S + 2


def trickle(connection: socket.socket, data: bytes, every_s: float) -> None:
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(every_s)


def field_of(answer: bytes, name: bytes) -> str:
    found = re.search(rb"^" + name + rb": (.*)\r$", answer, re.MULTILINE | re.IGNORECASE)
    return found[1].decode() if found else ""


def test_the_id_of_what_the_connection_refuses_is_in_the_log(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    openai = POST.replace(b"/embed/text", b"/v1/embeddings")
    stalled = b"Content-Length: 1000\r\n\r\n{"
    with caplog.at_level(logging.INFO, "reco.access"), serve(receive_timeout_s=0.3) as service:
        mine = answer_to(service, openai + b"X-Request-ID: mine\r\n" + stalled)
        made = answer_to(service, POST + stalled)
        broken = answer_to(service, b"GET / HTTP/1.1\r\n\r\n")
        at_once = answer_to(service, POST + b"Transfer-Encoding: chunked\r\n\r\n" + 1500 * b"1\r\na\r\n")
    logged = {record.request_fields["request_id"]: record.request_fields["code"] for record in caplog.records}  # type: ignore[attr-defined]
    assert logged["mine"] == "receive_timeout"
    assert field_of(mine, b"x-request-id") == "mine"
    assert b'{"error": {' in mine, "OpenAI's clients read no other form"
    for said, code in ((made, "receive_timeout"), (broken, "request_invalid"), (at_once, "chunks_too_small")):
        told = re.search(rb'"instance": "(\w+)"', said)
        assert told, said
        assert logged[told[1].decode()] == code_of(said) == code
        assert field_of(said, b"x-request-id") == told[1].decode()


@pytest.mark.parametrize("head", [GET, POST + b"Content-Length: 2\r\n\r\n"])
def test_T02_slowloris_bytes_do_not_move_the_deadline(hurried: Any, head: bytes) -> None:
    started = time.monotonic()
    with connected(hurried) as connection:
        feeder = threading.Thread(target=trickle, args=(connection, head, 0.1))
        feeder.start()
        said = connection.recv(65536)
        assert time.monotonic() - started < HEADER_S + 2
        assert (status_of(said), code_of(said)) == (408, "receive_timeout")
        connection.close()
        feeder.join()


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n64\r\n{", b"Content-Length: 9\r\n\r\n"],
)
def test_T03_T04_a_body_that_stalls_is_408(hurried: Any, framing: bytes) -> None:
    before, started = counted(hurried, "receive_timeout"), time.monotonic()
    said = answer_to(hurried, POST + framing)
    assert (status_of(said), code_of(said)) == (408, "receive_timeout")
    assert RECEIVE_S * 0.9 < time.monotonic() - started < RECEIVE_S + 2
    assert counted(hurried, "receive_timeout") == before + 1


def test_T03_what_a_body_waits_for_is_its_clients_time_and_its_status_is_the_one_sent(serve: Any) -> None:
    with serve(receive_timeout_s=0.5) as service:
        assert status_of(answer_to(service, POST + b"Content-Length: 9\r\n\r\n")) == 408
        slow = {"endpoint": "/embed/text"}
        assert total(service, "reco_requests_total", status="408", **slow) == 1
        assert total(service, "reco_requests_total", status="499") == 0
        assert total(service, "reco_request_duration_seconds_sum", **slow) < 0.25
        assert 0.4 < total(service, "reco_stage_duration_seconds_sum", stage="receive") < 5


@pytest.mark.parametrize("head", [b"GET /livez HTTP/1.1\r\n", POST])
def test_T02_a_refusal_of_the_connection_is_a_rejection_too(hurried: Any, head: bytes) -> None:
    before = total(hurried, "reco_rejections_total", reason="receive_timeout")
    assert status_of(answer_to(hurried, head)) == 408
    assert total(hurried, "reco_rejections_total", reason="receive_timeout") == before + 1


def test_T03_what_needs_no_body_is_answered_at_once(hurried: Any) -> None:
    started = time.monotonic()
    with connected(hurried) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert status_of(connection.recv(65536)) == 404
    assert time.monotonic() - started < RECEIVE_S / 2


def test_a_slow_answer_and_an_idle_wait_between_requests_are_no_slow_request(serve: Any) -> None:
    with serve(header_timeout_s=0.3, receive_timeout_s=0.3) as service, connected(service) as connection:
        for _ in range(3):
            connection.sendall(GET)
            said = b""
            while b"alive" not in said:
                said += connection.recv(65536)
            assert status_of(said) == 200
            time.sleep(0.6)


def test_T05_a_crowd_of_trickling_connections_keeps_nobody_out(hurried: Any) -> None:
    with httpx.Client(base_url=hurried.url) as client:
        client.get("/livez")
        url = httpx.URL(hurried.url)
        crowd = [socket.create_connection((url.host, url.port)) for _ in range(150)]
        for one in crowd:
            one.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        times = []
        for _ in range(20):
            started = time.monotonic()
            assert client.get("/livez").status_code == 200
            times.append(time.monotonic() - started)
        assert sorted(times)[-2] < 1.0
        for one in crowd:
            one.close()


def test_T05_more_connections_than_the_limit_are_refused(serve: Any) -> None:
    with serve(max_connections=5) as service:
        url = httpx.URL(service.url)
        service.client.close()  # idle, it would make room
        held = [socket.create_connection((url.host, url.port)) for _ in range(5)]
        time.sleep(0.2)
        said = answer_to(service)
        assert (status_of(said), code_of(said)) == (503, "too_many_connections")
        assert b"retry-after" in said.lower()
        for one in held:
            one.close()
        time.sleep(0.2)
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        assert total(service, "reco_rejections_total", reason="too_many_connections") == 1


def ask(connection: socket.socket) -> int:
    """The status of one more request on a connection; 0 if it has been closed."""
    said = b""
    try:
        connection.sendall(GET)
        while b"alive" not in said:
            more = connection.recv(65536)
            if not more:
                return 0
            said += more
    except (ConnectionResetError, BrokenPipeError):
        return 0
    return status_of(said)


def test_T05_who_waits_longest_for_a_next_request_makes_room_for_a_new_one(serve: Any) -> None:
    with serve(max_connections=4) as service, ExitStack() as stack:
        service.client.close()
        first, second, third, silent = (stack.enter_context(connected(service)) for _ in range(4))
        for one in (second, first, third, second):
            assert ask(one) == 200
        new = stack.enter_context(connected(service))
        assert ask(new) == 200
        assert ask(first) == 0, "of those that had asked, it had been idle longest"
        assert [ask(one) for one in (second, third, new, silent)] == [200] * 4


def connections_of(service: Any) -> list[Connection]:
    return [one for one in gc.get_objects() if type(one) is Connection and one.config.app is service.app]


def test_T05_who_reads_no_answer_makes_no_room(serve: Any) -> None:
    with serve(max_connections=3, send_timeout_s=300.0) as service, ExitStack() as stack:
        service.client.close()
        url = httpx.URL(service.url)
        crowd = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in crowd:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.connect((url.host, url.port))
        end = time.monotonic() + 60
        # All of them at once: the kernel may take more of one that it was full of a moment ago.
        while sum(c.transport.get_write_buffer_size() > 0 for c in connections_of(service)) < len(crowd):
            assert time.monotonic() < end, "the kernel takes everything"
            for one in crowd:
                one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            time.sleep(0.1)
        for _ in range(5):
            assert code_of(answer_to(service, LAST)) == "too_many_connections"


def test_a_connection_answered_before_its_body_was_whole_is_kept_as_others(serve: Any) -> None:
    with serve(header_timeout_s=0.5) as service, connected(service) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert status_of(connection.recv(65536)) == 404
        connection.sendall(b" " * 999)
        time.sleep(1.0)
        assert ask(connection) == 200, "longer than a request's head may take"


def test_what_is_wrong_with_the_rest_of_an_answered_body_gives_no_second_answer(serve: Any) -> None:
    with serve() as service, connected(service) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        assert status_of(connection.recv(65536)) == 404
        connection.sendall(b"no size\r\n")
        connection.settimeout(5)
        assert connection.recv(65536) == b"", "closed without a word"


def test_blank_lines_behind_a_request_under_way_keep_no_connection_open(serve: Any) -> None:
    with serve(header_timeout_s=0.5, keep_alive_s=0.5) as service, connected(service) as connection:
        body = b'{"texts": [%s]}' % b", ".join(b'"bird %d"' % number for number in range(60))
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.002)  # a packet of its own, while the request is under way
        connection.sendall(b"\r\n")
        connection.settimeout(5)
        said = b""
        while more := connection.recv(65536):  # a connection that stays ends in TimeoutError
            said += more
        assert status_of(said) == 200


def test_a_connection_that_was_reset_is_forgotten_at_once(serve: Any) -> None:
    with serve() as service:
        for _ in range(20):
            with connected(service) as connection:
                assert ask(connection) == 200
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.3)
        gc.collect()
        assert len(connections_of(service)) <= 1, "of the test's own client"


@pytest.mark.parametrize(("seconds", "closed"), [(0.3, True), (30.0, False)])
def test_an_idle_connection_is_kept_for_as_long_as_it_was_asked_to_be(serve: Any, seconds: float, closed: bool) -> None:
    with serve(keep_alive_s=seconds) as service, connected(service) as connection:
        assert ask(connection) == 200
        time.sleep(1.0)
        assert ask(connection) == (0 if closed else 200)


@contextmanager
def never_reading(service: Any, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for more than the kernel's buffers hold, and read none of it."""
    url = httpx.URL(service.url)
    held = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        one.connect((url.host, url.port))
        one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
        held.append(one)
    try:
        yield held
    finally:
        for one in held:
            one.close()


def test_T05_a_crowd_that_reads_no_answer_keeps_nobody_out_for_long(serve: Any) -> None:
    with serve(max_connections=3, send_timeout_s=1.0) as service:
        service.client.close()  # its idle connection would be closed meanwhile, and make room
        with never_reading(service, 3):
            end = time.monotonic() + 20
            while code_of(answer_to(service, LAST)) != "too_many_connections":
                assert time.monotonic() < end, "the crowd has not come"
            while status_of(answer_to(service, LAST)) != 200:
                assert time.monotonic() < end, "their connections are held on"
                time.sleep(0.1)
            text = httpx.get(f"{service.url}/metrics").text
        found = re.search(r"^reco_answers_unread_total (\S+)$", text, re.MULTILINE)
        assert found
        assert float(found[1]) >= 1


def test_a_reader_that_is_slow_but_in_time_gets_the_whole_answer(serve: Any) -> None:
    with serve(send_timeout_s=2.0) as service, never_reading(service, 1) as [slow]:
        slow.sendall(LAST)
        time.sleep(1.0)  # the server waits for it
        slow.settimeout(10)
        parts = []
        while more := slow.recv(1 << 20):
            parts.append(more)
        assert b"".join(parts).count(b"HTTP/1.1 200 ") == 101
        assert "reco_answers_unread_total 0.0" in service.client.get("/metrics").text


@pytest.mark.parametrize("size", [33_000, 60_000, 100_000, 10_000_000])
def test_T06_a_huge_header_is_refused(hurried: Any, size: int) -> None:
    said = answer_to(hurried, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * size, b"\r\n\r\n")
    assert status_of(said) in ((431, 0) if size > 1_000_000 else (431,))  # the kernel may drop an answer nobody awaits
    assert said == b"" or code_of(said) == "headers_too_large"


@pytest.mark.parametrize("count", [101, 10_000])
def test_T07_very_many_headers_are_refused(hurried: Any, count: int) -> None:
    said = answer_to(hurried, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * count + b"\r\n")
    assert (status_of(said), code_of(said)) == (431, "headers_too_large")


def test_T08_a_huge_url_is_refused(hurried: Any) -> None:
    said = answer_to(hurried, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(said) == 431


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Content-Length: 2\r\nContent-Length: 3",
     b"Content-Length: -1", b"Content-Length: 10000000000000000000000", b"Transfer-Encoding: gzip, chunked",
     b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Content-Length: 2, 3",
     b"Content-Length: +2", b"Content-Length : 2"],
)  # fmt: skip
def test_T09_T10_a_length_that_two_servers_may_read_apart_is_refused(hurried: Any, framing: bytes) -> None:
    said = answer_to(hurried, POST + framing + b"\r\n\r\n{}GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(said) in (400, 501)
    assert said.count(b"HTTP/1.1 ") == 1


def test_T11_a_bad_chunk_size_is_one_line(hurried: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        said = answer_to(hurried, POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n")
    assert (status_of(said), code_of(said)) == (400, "request_invalid")
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_T12_a_flood_of_tiny_chunks_is_refused(hurried: Any) -> None:
    started = time.process_time()
    said = answer_to(hurried, POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 500_000)
    assert time.process_time() - started < 1.0
    assert status_of(said) in (400, 0)
    framing, fair = b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n"
    assert code_of(answer_to(hurried, POST + framing + fair * 2000 + b"0\r\n\r\n")) == "json_invalid"


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_T13_a_declared_body_over_the_limit_is_refused_unread(hurried: Any, expect: bytes) -> None:
    with connected(hurried) as connection:
        connection.sendall(POST + expect + b"Content-Length: 999999999\r\n\r\n")
        said = b""
        while not said.endswith(b"}") and (more := connection.recv(65536)):  # head and body may come apart
            said += more
    assert (status_of(said), code_of(said)) == (413, "body_too_large")


@pytest.mark.parametrize(
    "request_line",
    [b"GET /livez HTTP/1.1\nHost: x\n\n", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n folded\r\n\r\n",
     b"GET /livez\r\n\r\n", b"GET /livez HTTP/1.1\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /li\x00vez HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n",
     b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: \x1b[31m\r\n\r\n", b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n"],
)  # fmt: skip
def test_T14_what_is_no_request_is_400(hurried: Any, request_line: bytes) -> None:
    said = answer_to(hurried, request_line)
    assert (status_of(said), code_of(said)) == (400, "request_invalid")


@pytest.mark.parametrize("target", [b"ftp://x/livez", b"/livez%00", b"//livez", b"http://x//livez", b"*"])
def test_T14_an_odd_target_is_no_route(hurried: Any, target: bytes) -> None:
    said = answer_to(hurried, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(said) == 404


@pytest.mark.parametrize(
    "target", [b"http://x/livez", b"HTTP://X:80/livez?", b"https://x/li%76ez?a=/", b"http://[::1]:8000/livez"]
)
def test_an_absolute_target_is_a_path_behind_a_host(hurried: Any, target: bytes) -> None:
    said = answer_to(hurried, b"GET " + target + b" HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n")
    assert status_of(said) == 200
    root = answer_to(hurried, b"GET http://x HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n")
    assert status_of(root) == 200


@pytest.mark.parametrize("target", [b"http:///livez", b"http://", b"http://user@x/livez", b"http://x@y/livez"])
def test_an_absolute_target_without_a_host_or_with_a_user_is_refused(hurried: Any, target: bytes) -> None:
    said = answer_to(hurried, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (status_of(said), code_of(said)) == (400, "request_invalid")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [(b"http://localhost/memory", b"evil.example.com", 200), (b"http://evil.example.com/memory", b"localhost", 421)],
)
def test_the_host_of_an_absolute_target_counts_and_the_header_does_not(
    service: Any, target: bytes, host: bytes, status: int
) -> None:
    said = answer_to(service, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert status_of(said) == status


def test_T15_websockets_are_refused_and_other_upgrades_ignored(hurried: Any) -> None:
    upgrade = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: %s\r\n\r\n"
    assert status_of(answer_to(hurried, upgrade % b"websocket")) == 400
    assert status_of(answer_to(hurried, upgrade % b"h2c")) == 200


@pytest.mark.parametrize(
    "body", [b"Content-Length: 13\r\n\r\n%s", b"Transfer-Encoding: chunked\r\n\r\nd\r\n%s\r\n0\r\n\r\n"]
)
def test_T15_a_request_that_wishes_for_another_protocol_keeps_its_body(hurried: Any, body: bytes) -> None:
    """Java's own client wishes for h2c; a body that is read as the next request is smuggling."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    request = POST + wish + body % b'{"texts":"a"}'
    said = answer_to(hurried, request[:-30], request[-30:] + request + LAST)
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200"] * 3
    hidden = POST + wish + b"Content-Length: %d\r\n\r\n" % len(GET) + GET + LAST
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer_to(hurried, hidden)) == [b"400", b"200"]
    nowhere = request.replace(b"/embed/text", b"http://user@x/embed/text")
    assert status_of(answer_to(hurried, nowhere)) == 400


def test_T16_a_tunnel_with_a_body_is_refused(hurried: Any) -> None:
    said = answer_to(hurried, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET)
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"400"]


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_T13_who_closes_behind_a_large_body_is_answered_and_not_reset(hurried: Any, version: bytes) -> None:
    """As nginx asks by default; reset while it sends, a client may never see the answer."""
    with connected(hurried) as connection:
        head = b"POST /nowhere " + version + b"\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % 20_000_000)
        for _ in range(200):
            connection.sendall(bytes(100_000))
        said = b""
        while more := connection.recv(65536):
            said += more
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"404"]


def test_T13_nothing_is_taken_behind_the_last_request_of_a_connection(
    hurried: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counted(hurried, "not_found")
    monkeypatch.setattr(Connection, "_ending", True)
    with connected(hurried) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        assert status_of(connection.recv(65536)) == 404
        connection.sendall(b"cd" + GET.replace(b"livez", b"nowhere"))
        assert connection.recv(65536) == b""
    monkeypatch.undo()
    assert counted(hurried, "not_found") == before + 1


def test_T13_who_sends_no_rest_behind_an_answer_is_closed_without_another(
    hurried: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.door.protocol._LEFTOVER_S", 0.2)
    for connection in (b"close", b"keep-alive"):
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nConnection: " + connection + b"\r\nContent-Length: 9\r\n\r\n"
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer_to(hurried, head)) == [b"404"]


def test_who_speaks_1_0_is_not_told_to_continue(hurried: Any) -> None:
    request = POST + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 13\r\n\r\n" + b'{"texts":"a"}'
    said = [answer_to(hurried, request.replace(b"HTTP/1.1", version)) for version in (b"HTTP/1.1", b"HTTP/1.0")]
    assert [status_of(one) for one in said] == [100, 200]


@pytest.mark.parametrize("method", [b"TRACE", b"BREW", b"PUT"])
def test_T16_odd_methods_are_405(hurried: Any, method: bytes) -> None:
    said = answer_to(hurried, method + b" /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (status_of(said), code_of(said)) == (405, "method_not_allowed")


def test_T17_a_compressed_body_is_never_inflated(hurried: Any) -> None:
    answer = hurried.client.post(
        "/embed/text", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding_unsupported")


def test_T20_pipelined_requests_are_answered_one_by_one(hurried: Any) -> None:
    said = answer_to(hurried, GET * 999 + GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    assert said.count(b"HTTP/1.1 200 ") == 1000


def test_T21_a_forged_address_is_believed_of_configured_proxies_only(serve: Any) -> None:
    def two_clients(service: Any) -> list[int]:
        headers = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in (1, 2)]
        return [service.client.post("/embed/text", json={"texts": "a"}, headers=one).status_code for one in headers]

    with serve(rate_limit=0.01, rate_burst_s=100) as service:
        assert two_clients(service) == [200, 429]
    with serve(rate_limit=0.01, rate_burst_s=100, trusted_proxies="127.0.0.0/8") as service:
        assert two_clients(service) == [200, 200]


def test_refusals_are_logged_once_and_shortly(hurried: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="reco.access"):
        answer_to(hurried, b"GET / / HTTP/1.1\r\n\r\n")
    [line] = [record.request_fields for record in caplog.records if record.name == "reco.access"]
    assert (line["status"], line["code"]) == (400, "request_invalid")


def test_a_trailer_is_no_header(serve: Any) -> None:
    key = "reco-test-key-that-nobody-guesses"
    body = b"11\r\n" + b'{"texts": "puff"}' + b"\r\n0\r\n"
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n"
    with serve(api_keys=key) as service:
        said = answer_to(service, head + b"\r\n" + body + f"Authorization: Bearer {key}\r\n\r\n".encode())
        assert status_of(said) == 401
        said = answer_to(service, head + f"Authorization: Bearer {key}\r\n\r\n".encode() + body + b"X-A: 1\r\n\r\n")
        assert status_of(said) == 200


@pytest.mark.parametrize(
    "part", [b"0\r\nX-A: " + b"a" * 100_000, b"1;x=" + b"a" * 100_000, b"0\r\n" + b"A: 1\r\n" * 20_000]
)
def test_what_stands_between_the_parts_of_a_body_is_bounded(hurried: Any, part: bytes) -> None:
    said = answer_to(hurried, POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", part)
    assert (status_of(said), code_of(said)) in ((431, "headers_too_large"), (0, ""))


def test_a_head_in_small_pieces_and_an_empty_field_are_read_as_they_are(hurried: Any) -> None:
    with connected(hurried) as connection:
        for byte in GET.replace(b"\r\n\r\n", b"\r\nX-Empty:\r\nX-Request-ID:  the-id \r\nConnection: close\r\n\r\n"):
            connection.sendall(bytes([byte]))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert status_of(said) == 200
    assert b"\r\nx-request-id: the-id\r\n" in said.lower()


def test_what_is_no_request_is_answered_after_those_before_it(hurried: Any) -> None:
    said = answer_to(hurried, GET * 3 + b"GET nonsense\r\n\r\n" + GET)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", said) == [b"200", b"200", b"200", b"400"]


def test_bodies_sent_ahead_are_read_as_their_requests_are_answered(hurried: Any) -> None:
    body = b'{"texts": "' + b"a " * 900 + b'"}'
    one = POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    said = answer_to(hurried, (one + chunked) * 10 + LAST)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", said) == [b"200"] * 21


def test_a_body_that_stalls_behind_another_request_is_408(hurried: Any) -> None:
    said = answer_to(hurried, GET + POST + b"Content-Length: 100\r\n\r\n{")
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", said) == [b"200", b"408"]


def test_blank_lines_keep_no_idle_connection_open(hurried: Any) -> None:
    with connected(hurried) as connection:
        connection.sendall(GET)
        assert status_of(connection.recv(65536)) == 200
        started = time.monotonic()
        feeder = threading.Thread(target=trickle, args=(connection, b"\r\n" * 20, 0.1))
        feeder.start()
        while connection.recv(65536):
            pass
        assert time.monotonic() - started < HEADER_S + 2
        connection.close()
        feeder.join()
