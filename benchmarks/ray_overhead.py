"""What Ray costs: a corpus built by the local engine and by `--engine ray`, with equal cores and threads of torch.

    python -m benchmarks.ray_overhead --bed /tmp/ray-bed [--pairs 1024] [--rounds 3]

A ViT-B/32 with random weights, drawn JPEG photographs of 640×480, captions; one worker of Ray with all cores beside
the local engine with all cores, turn by turn. Measured is the encoding, from the first unit asked for to the last
one finished; Ray's own start and the workers' opening of the encoder are told apart, for they happen once a build.
`processor_ms_a_pair` does not depend on what else the machine does.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.serving_bed import Bed, _cpu_seconds, _family, arguments, make_bed, write_result
from memory.format.work_files import BUILD_LOG
from memory_builder import BuildConfig, build
from memory_builder.engines.ray import EncoderSource, RayEngine, connected
from models.encoder import Encoder

UNIT_ROWS = 64


class Clock:
    """A build's progress that keeps when its stages began, and the processor time between its first rows and its last.

    Attributes:
        began: seconds on the clock, by stage.
        first: rows at the first report, and the processor time spent by then.
        processor_s: spent when the encoding ended.
    """

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.rows = 0
        self.first: tuple[int, float] | None = None
        self.processor_s = 0.0

    def stage(self, name: str) -> None:
        self.began[name] = time.perf_counter()
        if name == "segments":
            self.processor_s = family_seconds()

    def start(self, total_rows: int) -> None:
        """The rows are gone through from here."""

    def kept(self, units: int, rows: int, images: int) -> None:
        """Not asked for."""

    def advance(self, rows: int, rejected: int) -> None:
        self.rows += rows
        if rows and self.first is None:
            self.first = self.rows, family_seconds()

    def lanes(self, seconds: Mapping[str, float]) -> None:
        """Not asked for."""

    def done(self) -> None:
        """Told by the build's return."""

    def processor_ms_a_pair(self) -> float:
        """Of this process and all that come from it, Ray's own included, once the rows began to come."""
        assert self.first is not None
        rows, seconds = self.first
        return 1000 * (self.processor_s - seconds) / (self.rows - rows)


def write_corpus(bed: Bed, pairs: int) -> Path:
    """A tar of photographs and captions, each pair with bytes of its own."""
    path = bed.root / f"pairs-{pairs}.tar"
    if not path.is_file():
        photos, texts = bed.photos, bed.texts
        with tarfile.open(path, "w") as archive:
            for number in range(pairs):
                # What follows the end of a JPEG is not looked at, and makes the file another one.
                image = photos[number % len(photos)] + number.to_bytes(4, "big")
                caption = f"{texts[number % len(texts)]} {number}".encode()
                for extension, data in (("jpg", image), ("txt", caption)):
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return path


def measure(config: BuildConfig, encoder: Encoder, source: EncoderSource, *, with_ray: bool) -> dict[str, Any]:
    """One build: seconds of encoding, and of what comes before it."""
    shutil.rmtree(config.memory, ignore_errors=True)
    clock, began = Clock(), time.perf_counter()
    if with_ray:
        with connected(None, cpus=config.workers):
            ray_s = time.perf_counter() - began
            result = build(config, encoder, clock, engine=RayEngine(config, source, encoder.fingerprint.record()))
    else:
        ray_s = 0.0
        result = build(config, encoder, clock)
    whole_s = clock.began["segments"] - clock.began["encode"]
    units = [json.loads(line) for line in (config.memory / BUILD_LOG).read_text().splitlines()]
    # A unit's line has its end and its length: from the first beginning to the last end.
    encoding_s = max(unit["time"] for unit in units) - min(unit["time"] - unit["seconds"] for unit in units)
    return {
        "digest": result.digest,
        "encoding_s": encoding_s,
        "before_the_first_unit_s": whole_s - encoding_s,
        "start_of_ray_s": ray_s,
        "processor_ms_a_pair": clock.processor_ms_a_pair(),
    }


def family_seconds() -> float:
    """Processor time of this process and of all that come from it and are there, Ray's own included."""
    return sum(map(_cpu_seconds, _family(os.getpid())))


def main() -> None:
    """Run it and write benchmarks/results/ray-overhead.json."""
    parser = arguments(__doc__)
    parser.set_defaults(pairs=1024, rounds=3)
    parser.add_argument("--cores", type=int, default=2)
    options: argparse.Namespace = parser.parse_args()
    bed = make_bed(options)
    corpus = write_corpus(bed, options.pairs)
    encoder = Encoder.open(str(bed.encoder), device="cpu")
    source = EncoderSource(str(bed.encoder), None, "cpu", encoder.dtype)
    runs: dict[str, list[dict[str, Any]]] = {"local": [], "ray": []}
    for _ in range(options.rounds):
        for name, done in runs.items():
            config = BuildConfig(
                (str(corpus),), bed.root / f"memory-{name}", unit_rows=UNIT_ROWS, batch_size=32, workers=options.cores
            )
            done.append(measure(config, encoder, source, with_ray=name == "ray"))
    assert len({run["digest"] for done in runs.values() for run in done}) == 1, "every build has the same digest"
    ratios = {
        figure: [ray[figure] / local[figure] for ray, local in zip(runs["ray"], runs["local"], strict=True)]
        for figure in ("encoding_s", "processor_ms_a_pair")
    }
    figures = ("encoding_s", "before_the_first_unit_s", "start_of_ray_s", "processor_ms_a_pair")
    medians = {
        name: {figure: round(statistics.median(run[figure] for run in done), 2) for figure in figures}
        for name, done in runs.items()
    }
    write_result(
        "ray-overhead",
        {
            "encoder": f"ViT-B-32, random weights, {encoder.dtype}",
            "pairs": options.pairs,
            "unit_rows": UNIT_ROWS,
            "cores": options.cores,
            "rounds": options.rounds,
            "medians": medians,
            "ray_over_local": {
                figure: {"median": round(statistics.median(each), 3), "rounds": [round(one, 3) for one in each]}
                for figure, each in ratios.items()
            },
        },
    )


if __name__ == "__main__":
    main()
