"""What a request costs the service beside its item: processor microseconds of refused and of answered requests.

    python -m benchmarks.serving_loop --photos /path/to/photographs [--beside OTHER_CHECKOUT]

The encoder is replaced by one that answers at once, so what is left is HTTP, JSON, the tokeniser, metrics, log lines
and the way through the queue; for refusals the queue is said to be full. Images are decoded in processes, whose own
time is not counted, as beside a GPU. 32 clients ask as fast as they are answered.
With another checkout of this repository the two take turns, and the ratio is of the same minutes.
Takes about two minutes; writes benchmarks/results/serving-loop.json.
"""

import argparse
import asyncio
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_bed import Bed, Server, arguments, make_bed, make_memory, server, write_result
from benchmarks.serving_load import closed_loop, post, post_json

CONCURRENCY = 32
CASES = {"text_refused": 503, "image_refused": 503, "text_answered": 200, "image_answered": 200}


def serve(case: str) -> None:
    """Be the service of one case, set by RECO_ variables: the code is of whatever checkout PYTHONPATH names first."""
    from service.environment import load_settings
    from service.pipeline import workers
    from service.pipeline.batcher import Batcher
    from service.pipeline.engine import Answer
    from service.serving import run

    answer = Answer(np.full(512, 512**-0.5, dtype=np.float32))
    workers.compute = lambda modality, queries: ([answer] * len(queries), {"encode": 0.001})  # type: ignore[assignment]
    if CASES[case] == 503:
        Batcher._fits = lambda *_: False  # type: ignore[method-assign]
    run(load_settings())


@contextmanager
def case_server(bed: Bed, memory: Path, case: str, checkout: Path) -> Iterator[Server]:
    """A checkout's service for one case."""
    values = {"model": bed.encoder, "memory": memory, "stamps": bed.root / "stamps", "log_format": "json"}
    values["decoding"] = "processes"
    environ = {f"RECO_{name.upper()}": str(value) for name, value in values.items()}
    environ |= {"RECO_PORT": "{port}", "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", case]
    with server(command, "/readyz", environ) as running:
        yield running


def requests_of(bed: Bed, case: str) -> list[bytes]:
    """One item each."""
    if case.startswith("image"):
        return [post("/embed/image?enhance=false", photo, "image/jpeg") for photo in bed.photos]
    return [post_json("/embed/text", {"texts": text, "enhance": False}) for text in bed.texts]


def microseconds(running: Server, requests: Sequence[bytes], status: int, seconds: float) -> float:
    """Processor time of the service, per request."""
    before = running.own_cpu_seconds()
    outcome = asyncio.run(closed_loop(running.address, requests, concurrency=CONCURRENCY, seconds=seconds))
    assert set(outcome.seconds) == {status}, outcome.counts()
    return 1e6 * (running.own_cpu_seconds() - before) / len(outcome.seconds[status])


def compare(bed: Bed, memory: Path, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case: this checkout, and the other by turns."""
    checkouts = {"us": Path(__file__).resolve().parent.parent}
    if options.beside:
        checkouts["us_beside"] = options.beside.resolve()
    requests = requests_of(bed, case)
    found: dict[str, list[float]] = {name: [] for name in checkouts}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(case_server(bed, memory, case, checkout)) for name, checkout in checkouts.items()
        }
        for running in servers.values():
            microseconds(running, requests, CASES[case], 1.0)
        for _ in range(options.rounds):
            for name, running in servers.items():
                found[name].append(microseconds(running, requests, CASES[case], options.seconds / 2))
    told: dict[str, Any] = {name: round(statistics.median(values)) for name, values in found.items()}
    if options.beside:
        ratios = [ours / theirs for ours, theirs in zip(found["us"], found["us_beside"], strict=True)]
        told["ratio"] = round(statistics.median(ratios), 3)
    return told


def main() -> None:
    """Run and write the result."""
    parser = arguments(__doc__)
    parser.add_argument("--beside", type=Path, help="another checkout, to take turns with")
    parser.add_argument("--only", choices=list(CASES), nargs="*")
    parser.set_defaults(pairs=1000, seconds=4.0)  # nothing is searched
    parser.add_argument("--serve", choices=list(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    bed = make_bed(options)
    memory = make_memory(bed, options.pairs)
    found = {case: compare(bed, memory, case, options) for case in options.only or CASES}
    write_result("serving-loop", {"microseconds_a_request": found, "cores": os.cpu_count()})


if __name__ == "__main__":
    main()
