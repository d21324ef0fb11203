"""OpenTelemetry: a span for each request and one for each of its stages. The one file that knows it (extra `otel`).

Spans are made when a request has ended, of what was measured for Server-Timing and the metrics anyway; that takes the
event loop a third of a millisecond. The stages of a span are laid one after the other: their lengths are measured, and
their places are not.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

logger = logging.getLogger("reco.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_PROTOCOL = "http/protobuf"  # what the extra speaks
_EMBEDDINGS = ("/embed/", "/v1/embeddings")  # what OpenTelemetry's (unfinished) GenAI conventions have a name for


@dataclass(frozen=True)
class Ended:
    """What is told of a request that has ended; no body, no key, no address.

    Attributes:
        method: of HTTP.
        endpoint: its route's template; "" if it has none.
        status: of the answer.
        seconds: from its start to its end.
        stages: seconds by stage, in the order of the path.
        headers: of the request; `traceparent` and `tracestate` are looked at.
        attributes: request id, items, problem code; None is left out.
    """

    method: str
    endpoint: str
    status: int
    seconds: float
    stages: Mapping[str, float]
    headers: Mapping[str, str]
    attributes: Mapping[str, str | int | None] = field(default_factory=dict)


class Tracing:
    """Where spans go."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("reco")

    def record(self, ended: Ended) -> str:
        """Make the spans of a request, as a part of its caller's trace if it names one.

        Returns:
            The trace's id, 32 hexadecimal digits, for the log.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        end = time.time_ns()
        begin = end - _nanoseconds(ended.seconds)
        told: dict[str, str | int] = {"http.request.method": ended.method}
        if ended.endpoint:
            told["http.route"] = ended.endpoint
        told |= {f"reco.{name}": value for name, value in ended.attributes.items() if value is not None}
        if ended.endpoint.startswith(_EMBEDDINGS):
            told["gen_ai.operation.name"] = "embeddings"
        span = self._tracer.start_span(
            f"{ended.method} {ended.endpoint}".rstrip(),
            TraceContextTextMapPropagator().extract(ended.headers),
            kind=SpanKind.SERVER,
            attributes={**told, "http.response.status_code": ended.status},
            start_time=begin,
        )
        if ended.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        inside, at = set_span_in_context(span), begin
        for stage, seconds in ended.stages.items():
            part = self._tracer.start_span(stage, inside, start_time=at)
            at = min(end, at + _nanoseconds(seconds))
            part.end(at)
        span.end(end)
        return f"{span.get_span_context().trace_id:032x}"


def open_tracing() -> Tracing | None:
    """To where OpenTelemetry's own variables say; None if they name no endpoint or turn it off, or something else than
    what the extra does, which is told; and without the extra."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    wanted = next(filter(None, map(os.environ.get, reversed(_PROTOCOLS))), _PROTOCOL)
    if wanted != _PROTOCOL:
        logger.warning("no spans are sent: %s is not spoken here, only %s (port 4318)", wanted, _PROTOCOL)
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("%s is set, but the extra `otel` is not installed: see docs/operations.md", ENDPOINTS[0])
        return None
    named = SERVICE_NAME in OTELResourceDetector().detect().attributes
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "reco"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
