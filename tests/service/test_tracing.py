"""Spans of OpenTelemetry's own SDK: one a request, one a stage, in the caller's trace; nothing private in them."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.observing.tracing import Tracing, open_tracing

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(serve: Any, spans: InMemorySpanExporter) -> Any:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with serve(tracing=Tracing(provider)) as service:
        yield service.client


def test_a_request_and_its_stages_are_spans_of_the_callers_trace(traced: Any, spans: InMemorySpanExporter) -> None:
    traced.post("/embed/text", json={"texts": ["a secret bird"]}, headers={"traceparent": CALLER})
    traced.get("/nowhere")  # spans are made after the answer: the first ones are there when this one is answered
    named = {span.name: span for span in spans.get_finished_spans()}
    request = named["POST /embed/text"]
    assert f"{request.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
    told = dict(request.attributes)
    assert (told["http.response.status_code"], told["reco.items"]) == (200, 1)
    assert told["gen_ai.operation.name"] == "embeddings"
    for stage in ("encode", "retrieve", "fuse"):
        assert named[stage].parent.span_id == request.context.span_id
        assert request.start_time <= named[stage].start_time <= named[stage].end_time <= request.end_time
    assert "secret" not in str([span.to_json() for span in named.values()])


def test_a_line_of_the_log_names_its_trace(traced: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="reco.access"):
        traced.post("/embed/text", json={"texts": ["a bird"]}, headers={"traceparent": CALLER})
        traced.get("/nowhere")  # the first one's line is there by now
    [first] = [record.request_fields for record in caplog.records if record.request_fields["status"] == 200]
    assert first["trace_id"] == CALLER.split("-")[1]


def test_a_refusal_has_its_code_and_probes_have_no_span(traced: Any, spans: InMemorySpanExporter) -> None:
    traced.get("/livez")
    traced.post("/embed/text", json={"texts": ""})
    traced.get("/nowhere")
    [refused] = [span for span in spans.get_finished_spans() if span.name == "POST /embed/text"]
    assert refused.attributes["reco.code"] == "text_empty"
    assert refused.parent is None
    assert not [span.name for span in spans.get_finished_spans() if "livez" in span.name]


def test_what_no_route_takes_is_a_span_without_one(traced: Any, spans: InMemorySpanExporter) -> None:
    traced.get("/nowhere")
    traced.get("/nowhere")  # the first one's span is there by now
    [first] = [span for span in spans.get_finished_spans() if span.name == "GET"][:1]
    assert "http.route" not in first.attributes


@pytest.mark.parametrize(
    ("set_to", "named"),
    [
        ({}, "reco"),
        ({"OTEL_SERVICE_NAME": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,team=search"}, "shop"),
    ],
)
def test_its_name_is_opentelemetrys_to_set(monkeypatch: pytest.MonkeyPatch, set_to: dict[str, str], named: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    tracing = open_tracing()
    assert tracing is not None
    assert tracing._tracer.resource.attributes["service.name"] == named  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("OTEL_TRACES_EXPORTER", "none", []), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", ["grpc is not spoken here"])],
)
def test_it_does_nothing_else_than_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str, told: list[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert open_tracing() is None
    assert len(caplog.messages) == len(told)
    assert all(words in line for words, line in zip(told, caplog.messages, strict=True))


def test_it_is_off_until_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert open_tracing() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert isinstance(open_tracing(), Tracing)
