"""What surrounds each request: its id, its log line, its metrics, and problems in one form."""

import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from service.observing.logs import JsonFormatter, TextFormatter
from service.observing.metrics import Metrics
from service.problems import KINDS


def metric(client: httpx.Client, line: str) -> float:
    """The value of one series; 0 if it is not there."""
    text = client.get("/metrics").text
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("request_id", ["a", "Abc.1_2-3", "x" * 64])
def test_a_good_request_id_comes_back(client: httpx.Client, request_id: str) -> None:
    answer = client.get("/livez", headers={"X-Request-ID": request_id})
    assert answer.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "a\t[31m", "ä", "a;b", "${x}"])
def test_K11_a_bad_request_id_is_replaced(client: httpx.Client, request_id: str) -> None:
    answer = client.get("/nowhere", headers=[(b"X-Request-ID", request_id.encode())])
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.json()["instance"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/memory/", 404, "not_found"),
        ("GET", "/../etc/passwd", 404, "not_found"),
        ("GET", "/embed/text", 405, "method_not_allowed"),
        ("TRACE", "/livez", 405, "method_not_allowed"),
        ("BREW", "/embed/image", 405, "method_not_allowed"),
    ],
)
def test_no_such_place(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["type"], problem["detail"]) == (code, f"/docs#{code}", KINDS[code].title)
    assert path.strip("/") not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/label_sets/x", "DELETE, GET, HEAD, PUT"),
        ("POST", "/livez", "GET, HEAD"),
        ("GET", "/embed/text", "POST"),
        ("HEAD", "/classify", "POST"),
        ("DELETE", "/v1/models/x", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_all_that_the_path_takes(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_whatever_answers_get_answers_head(service: Any) -> None:
    document = service.client.get("/openapi.json").json()
    paths = {path for path, methods in document["paths"].items() if "get" in methods}
    assert not any("head" in methods for methods in document["paths"].values())
    others = {"/", "/health", "/page/page.css", "/samples", "/evaluation", "/docs", "/openapi.json"}
    for path in sorted(paths | others):
        path = path.format(name="x", model="tiny-clip", id=1, key="x")
        get, head = service.client.get(path), service.client.head(path)
        assert (path, head.status_code, head.content) == (path, get.status_code, b"")
        lengths, types = ([one.headers.get(name) for one in (get, head)] for name in ("content-length", "content-type"))
        assert types[0] == types[1]
        assert lengths[0] is not None
        assert (lengths[1] == lengths[0]) or path in ("/metrics", "/memory/items", "/label_sets/x") or get.is_error


def test_requests_are_counted_by_route_and_unknown_ones_share_a_label(client: httpx.Client) -> None:
    good = 'reco_requests_total{endpoint="/embed/text",method="POST",status="200"}'
    unmatched = 'reco_requests_total{endpoint="unmatched",method="GET",status="404"}'
    odd = 'reco_requests_total{endpoint="unmatched",method="other",status="404"}'
    unknown = 'reco_requests_total{endpoint="unmatched",method="other",status="405"}'
    names = (good, unmatched, odd, unknown)
    before = [metric(client, line) for line in names]
    client.post("/embed/text", json={"texts": "a"})
    for number in range(5):
        client.get(f"/odd/{number}")
        client.request("PROPFIND", f"/odd/{number}")
        client.request(f"BREW{number}", f"/odd/{number}")
    after = [metric(client, line) for line in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 5, 5, 5]


def test_items_stages_and_errors_are_counted(client: httpx.Client) -> None:
    names = [
        'reco_items_total{modality="text",outcome="ok"}',
        'reco_items_total{modality="text",outcome="failed"}',
        'reco_errors_total{code="text_empty"}',
        'reco_batch_size_count{modality="text"}',
        'reco_retrieval_similarity_count{modality="text"}',
        'reco_fusion_shift_count{modality="text"}',
        *(
            f'reco_stage_duration_seconds_count{{stage="{stage}"}}'
            for stage in ("tokenize", "encode", "retrieve", "fuse")
        ),
    ]
    before = [metric(client, name) for name in names]
    client.post("/embed/text", json={"texts": ["a", "", "b"], "on_error": "partial"})
    client.post("/embed/text", json={"texts": ""})
    end = time.monotonic() + 5  # a batch is counted after its answers are given
    while True:
        grown = [metric(client, name) - then for name, then in zip(names, before, strict=True)]
        if all(growth >= 1 for growth in grown[3:]) or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert grown[:3] == [2, 2, 1]
    assert all(growth >= 1 for growth in grown[3:]), list(zip(names, grown, strict=True))[3:]


def test_metrics_say_what_is_loaded(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    assert re.search(r'^reco_memory_info\{digest="[0-9a-f]{64}",version="1"\} 1\.0$', text, re.MULTILINE)
    assert re.search(
        r'^reco_build_info\{fusion="[0-9a-f]{16}",model="tiny-clip",version=".+"\} 1\.0$', text, re.MULTILINE
    )
    assert "reco_memory_items 24.0" in text


def test_each_app_has_metrics_of_its_own() -> None:
    first, second = Metrics(), Metrics()
    first.errors.labels("not_found").inc()
    assert b'code="not_found"' in first.render()
    assert b'code="not_found"' not in second.render()


def test_one_log_line_per_request_without_the_body(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="reco.access"):
        client.post("/embed/text", json={"texts": "a very private sentence"}, headers={"X-Request-ID": "mine"})
        client.post("/embed/text", json={"texts": ""}, headers={"X-Request-ID": "bad"})
        client.get("/livez")  # a line is written after its answer: this comes after both, and a good probe has none
    records = [record for record in caplog.records if record.name == "reco.access"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    by_id = {line["request_id"]: line for line in lines}
    assert set(by_id) == {"mine", "bad"}
    told = {name: by_id["mine"][name] for name in ("method", "endpoint", "status", "items", "code")}
    assert told == {"method": "POST", "endpoint": "/embed/text", "status": 200, "items": 1, "code": None}
    assert (by_id["bad"]["status"], by_id["bad"]["code"]) == (422, "text_empty")
    assert "private" not in json.dumps(lines)
    assert all(len(json.dumps(line)) < 1024 for line in lines)


def test_the_text_format_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="reco.access"):
        logging.getLogger("reco.access").info("request", extra={"request_fields": {"status": 200, "code": None}})
    assert re.search(r"INFO reco\.access request status=200$", TextFormatter().format(caplog.records[0]))


CONFIGURED = """
import logging.config, sys
from service.observing.logs import log_request, logging_config
logging.config.dictConfig(logging_config(sys.argv[1]))
log_request(status=200)
logging.getLogger("uvicorn.error").info("started")
logging.getLogger("uvicorn.access").warning("an address")
logging.getLogger("another.library").info("chatter")
for _ in range(15):
    logging.getLogger("another.library").warning("the same")
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_process_that_is_configured_writes_our_lines_and_the_warnings_of_others(log_format: str) -> None:
    run = subprocess.run([sys.executable, "-c", CONFIGURED, log_format], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    if log_format == "json":
        told = [json.loads(line) for line in lines]
        assert told[0]["status"] == 200
        messages = [f"{line['logger']} {line['message']}" for line in told]
    else:
        assert lines[0].endswith("request status=200")
        messages = [line.partition("INFO ")[2] or line.partition("WARNING ")[2] for line in lines]
        messages[0] = messages[0].removesuffix(" status=200")
    assert messages == ["reco.access request", "uvicorn.error started", *["another.library the same"] * 10]


def test_an_unforeseen_fault_is_a_500_that_says_nothing(
    service: Any, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bytes:
        raise RuntimeError("secret at /srv/key")

    monkeypatch.setattr(service.app.state.service.metrics, "render", broken)
    answer = client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json()["instance"] in caplog.text


def full_service(serve: Any, **settings: Any) -> Any:
    """A service whose queues are full."""

    @contextmanager
    def running() -> Iterator[Any]:
        with serve(**settings) as service:
            service.app.state.service.pipeline.batcher._max_queue_items = 0
            yield service

    return running()


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/embed/text", "application/json"), ("/embed/image", "image/png"), ("/classify", "text/plain")],
)
def test_a_full_service_refuses_unread(serve: Any, path: str, media_type: str) -> None:
    rejected = 'reco_rejections_total{reason="queue_full"}'
    counted = f'reco_requests_total{{endpoint="{path}",method="POST",status="503"}}'
    with full_service(serve) as service:
        before = [metric(service.client, line) for line in (rejected, counted)]
        url = httpx.URL(service.url)
        with socket.create_connection((url.host, url.port), timeout=5) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nContent-Type: {media_type}\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())  # and not a byte of it
            said = connection.recv(65536)
            connection.sendall(b"x" * 1000 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")  # the connection goes on
            assert b"200 OK" in connection.recv(65536)
        assert [metric(service.client, line) for line in (rejected, counted)] == [value + 1 for value in before]
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1" in head
    assert b"\r\nx-request-id: mine" in head
    assert b"\r\ncontent-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["code"], problem["instance"], problem["status"]) == ("queue_full", "mine", 503)


def test_a_full_service_tells_openai_clients_in_their_words(serve: Any) -> None:
    with full_service(serve) as service:
        answer = service.client.post("/v1/embeddings", json={"model": "reco", "input": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == ("queue_full", "server_error")


def test_a_full_service_still_asks_for_keys_first_and_counts_against_their_rate(serve: Any) -> None:
    key = "a-key-of-twenty-four-characters"
    with full_service(serve, api_keys=key, rate_limit=0.001, rate_burst_s=2000) as service:
        post = partial(service.client.post, "/embed/text", json={"texts": "a"})
        good = {"Authorization": f"Bearer {key}"}
        assert post().status_code == 401
        answers = [post(headers=good) for _ in range(3)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (503, "queue_full"),
        (503, "queue_full"),
        (429, "rate_limited"),
    ]
    assert answers[0].headers["ratelimit"].startswith('"items";r=1;')


def test_a_full_service_answers_everything_else(serve: Any) -> None:
    with full_service(serve) as service:
        found = [
            service.client.get("/livez"),
            service.client.get("/embed/text"),
            service.client.post("/nowhere"),
            service.client.get("/v1/models"),
        ]
    assert [answer.status_code for answer in found] == [200, 405, 404, 200]


def test_many_refusals_are_a_few_lines_and_their_number(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with full_service(serve) as service, caplog.at_level(logging.INFO, logger="reco.access"):
        for _ in range(25):
            service.client.post("/embed/text", json={"texts": "a"})
        time.sleep(1.2)
    lines = [record.request_fields for record in caplog.records if record.name == "reco.access"]
    refused = [line for line in lines if line.get("code") == "queue_full"]
    told = [line for line in refused if "count" not in line]
    assert 10 <= len(told) < 25
    assert len(told) + sum(line.get("count", 0) for line in refused) == 25
