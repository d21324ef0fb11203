"""What surrounds each request: its id, its log line, its metrics, and problems in one form."""

import json
import logging
import re
import time
from typing import Any

import httpx
import pytest

from service.observing.logs import JsonFormatter, TextFormatter, logging_config
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


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "\x1b[31m", "ä", "a;b", "${x}"])
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


def test_requests_are_counted_by_route_and_unknown_ones_share_a_label(client: httpx.Client) -> None:
    good = 'reco_requests_total{endpoint="/embed/text",method="POST",status="200"}'
    unmatched = 'reco_requests_total{endpoint="unmatched",method="GET",status="404"}'
    odd = 'reco_requests_total{endpoint="unmatched",method="other",status="404"}'
    before = [metric(client, line) for line in (good, unmatched, odd)]
    client.post("/embed/text", json={"texts": "a"})
    for number in range(5):
        client.get(f"/odd/{number}")
        client.request(f"BREW{number}", f"/odd/{number}")
    after = [metric(client, line) for line in (good, unmatched, odd)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 5, 5]


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


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_logging_config_is_accepted(log_format: Any) -> None:
    logging.config.DictConfigurator(logging_config(log_format))


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
