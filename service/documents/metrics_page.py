"""docs/metrics.md, made from the metrics themselves: `python -m service.documents.metrics_page > docs/metrics.md`.

Depends on metrics only. A test holds the page to the code.
"""

import sys

from prometheus_client.metrics_core import Metric

from service.observing.metrics import Metrics

_HEAD = """# Metrics

Made from the code, do not edit it by hand: `python -m service.documents.metrics_page > docs/metrics.md`.

What `GET /metrics` tells, in the Prometheus text format; those of the process (`process_...`: memory, processor time,
open files) are beside them. A histogram has the series `..._bucket`, `..._sum` and `..._count`. Labels are closed sets,
so nothing that clients send makes new series. Where keys guard it: [operations](operations.md#how-do-i-scrape-it).

| metric | kind | labels | |
|---|---|---|---|
"""


def render_metrics() -> str:
    """The page."""
    metrics = Metrics()
    labels = {one._name: one._labelnames for one in vars(metrics).values() if hasattr(one, "_labelnames")}
    rows = [_row(one, labels[one.name]) for one in metrics.registry.collect() if one.name.startswith("reco_")]
    return _HEAD + "\n".join(rows) + "\n"


def _row(metric: Metric, labels: tuple[str, ...]) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    told = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {metric.type} | {told} | {metric.documentation} |"


if __name__ == "__main__":
    sys.stdout.write(render_metrics())
