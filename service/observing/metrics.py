"""Every metric of the service, declared once, in a registry of its own for each app.

Depends on prometheus-client and problems. Base units in the names; labels only from closed sets,
so that no client can grow the number of series.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.problems import REJECTIONS

# A `_created` series beside each counter would double them for nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]

UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_COSINES = (-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1.0)


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "reco_requests_total", "Requests answered.", ("endpoint", "method", "status"), registry=registry
        )
        self.request_duration = Histogram(
            "reco_request_duration_seconds",
            "From a request to its answer, without the time that its client took to send the body.",
            ("endpoint",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._request_series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.inflight = Gauge("reco_inflight_requests", "Requests under way.", registry=registry)
        self.items = Counter(
            "reco_items_total",
            "Images and texts, by how they ended.",
            ("modality", "outcome"),
            registry=registry,
        )
        self.batch_size = Histogram(
            "reco_batch_size", "Items encoded together.", ("modality",), buckets=_SIZES, registry=registry
        )
        self.stage_duration = Histogram(
            "reco_stage_duration_seconds",
            "Seconds by stage: receive per body; tokenize per request; decode and queue per item; encode, retrieve and "
            "fuse per batch; weigh per label set.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage_series: dict[str, Histogram] = {}
        self.worker_restarts = Counter(
            "reco_worker_restarts_total", "Faults of ours that the compute thread went on after.", registry=registry
        )
        self.queue_depth = Gauge(
            "reco_queue_depth", "Items admitted and not answered yet.", ("modality",), registry=registry
        )
        self.undecoded = Gauge(
            "reco_undecoded_pixels", "Pixels of images admitted and not decoded yet.", registry=registry
        )
        self.queue_wait = Histogram(
            "reco_queue_wait_seconds", "From queued to computed.", ("modality",), buckets=_SECONDS, registry=registry
        )
        self.truncated = Counter("reco_text_truncated_total", "Texts cut to the encoder's context.", registry=registry)
        self.last_success = Gauge(
            "reco_last_success_timestamp_seconds", "When a batch was last computed.", registry=registry
        )
        self.ready = Gauge(
            "reco_ready",
            "Whether it can answer: 0 while it loads, if that failed, and while no item of its own comes through.",
            registry=registry,
        )
        self.loop_lag = Gauge(
            "reco_event_loop_lag_seconds", "How late the event loop is with what is due.", registry=registry
        )
        self.rejections = Counter(
            "reco_rejections_total",
            "Requests refused before their work was begun, or not done in time.",
            ("reason",),
            registry=registry,
        )
        self.errors = Counter("reco_errors_total", "Problems answered, by code.", ("code",), registry=registry)
        self.unread = Counter(
            "reco_answers_unread_total",
            "Connections cut because their client did not read its answer in time.",
            registry=registry,
        )
        self._declare_memory(registry)

    def _declare_memory(self, registry: CollectorRegistry) -> None:
        """What nobody else has: how near the memory is to what is asked, and how far it moves it."""
        self.retrieval_similarity = Histogram(
            "reco_retrieval_similarity",
            "Similarity of the best neighbour: falls when queries drift away from the memory.",
            ("modality",),
            buckets=_COSINES,
            registry=registry,
        )
        self.fusion_shift = Histogram(
            "reco_fusion_shift",
            "Cosine between original and refined embedding.",
            ("modality",),
            buckets=_COSINES,
            registry=registry,
        )
        self.class_cache = Counter(
            "reco_class_cache_lookups_total",
            "Label sets of /classify, by how their embeddings were found: hit, miss, or joined to one under way.",
            ("outcome",),
            registry=registry,
        )
        self.class_cache_bytes = Gauge("reco_class_cache_bytes", "Class embeddings that are kept.", registry=registry)
        self.degraded = Counter(
            "reco_degraded_items_total",
            "Items answered with the frozen encoder's embedding because the memory was away.",
            ("modality",),
            registry=registry,
        )
        self.memory_items = Gauge("reco_memory_items", "Items in the memory.", registry=registry)
        self.memory_info = Gauge("reco_memory_info", "The memory in use.", ("version", "digest"), registry=registry)
        self.reloads = Counter("reco_reloads_total", "Reloads tried.", registry=registry)
        self.reload_failures = Counter(
            "reco_reload_failures_total", "Reloads refused; the old served on.", ("code",), registry=registry
        )
        self.reload_refused = Gauge(
            "reco_reload_refused",
            "1 from a reload that was refused to the next that is not.",
            ("code",),
            registry=registry,
        )
        self.watch_failures = Counter(
            "reco_watch_failures_total",
            "Looks for a newer memory that failed (RECO_WATCH_MEMORY_S).",
            registry=registry,
        )
        self.generations = Gauge(
            "reco_generations", "Versions in memory: more than 1 while old ones drain.", registry=registry
        )
        self.build_info = Gauge("reco_build_info", "This service.", ("version", "model", "fusion"), registry=registry)

    def observe_request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count a request under its route's template; a path or method nobody serves shares one label."""
        method = method if method in _METHODS else "other"
        series = self._request_series.get((endpoint, method, status))
        if series is None:  # looking a series up by its labels takes longer than counting
            series = self.requests.labels(endpoint, method, str(status)), self.request_duration.labels(endpoint)
            self._request_series[endpoint, method, status] = series
        count, duration = series
        count.inc()
        duration.observe(seconds)

    def count_problem(self, code: str) -> None:
        """Count a problem that is answered."""
        self.errors.labels(code).inc()
        if code in REJECTIONS:
            self.rejections.labels(code).inc()

    def observe_stages(self, seconds: Mapping[str, float]) -> None:
        """Add one observation to each named stage."""
        for stage, value in seconds.items():
            series = self._stage_series.get(stage)
            if series is None:
                series = self._stage_series[stage] = self.stage_duration.labels(stage)
            series.observe(value)

    def describe(self, *, model: str, fusion: str | None, memory_version: int, digest: str, num_items: int) -> None:
        """Say what is loaded, in place of what was."""
        self.memory_info.clear()
        self.build_info.clear()
        self.memory_items.set(num_items)
        self.memory_info.labels(str(memory_version), digest).set(1)
        self.build_info.labels(service_version(), model, fusion or "").set(1)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def service_version() -> str:
    """Version of the installed distribution; "0" when run from a tree that was never installed."""
    try:
        return version("reco-clip")
    except PackageNotFoundError:
        return "0"
