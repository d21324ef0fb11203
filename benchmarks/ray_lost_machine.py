"""20,000 drawn pairs on a Ray of three machines, one of which is lost half-way: is the memory the local engine's?

    python -m benchmarks.ray_lost_machine --bed /tmp/ray-bed [--pairs 20000]

The machines are simulated on this one (`ray.cluster_utils.Cluster`), a core each; the demo's tiny CLIP encodes.
"""

import argparse
import io
import shutil
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from benchmarks.serving_bed import write_result
from demo.clip import tiny_clip_directory
from demo.shots import nameless_shot
from memory import read_manifest
from memory_builder import BuildConfig, build
from memory_builder.engines.ray import EncoderSource, RayEngine, connected
from models.encoder import Encoder

MACHINES = 3


def write_corpus(bed: Path, pairs: int) -> Path:
    """A tar of birds with captions."""
    path = bed / f"birds-{pairs}.tar"
    if not path.is_file():
        bed.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w") as archive:
            for number in range(pairs):
                shot = nameless_shot("benchmark/birds", number)
                for extension, data in (("png", shot.png()), ("txt", shot.caption.encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        partial.rename(path)
    return path


class Loss:
    """A build's progress that loses a machine when half of the rows are read."""

    def __init__(self, cluster: Cluster, machine: Any, pairs: int) -> None:
        self._cluster, self._machine, self._half = cluster, machine, pairs // 2
        self.rows = 0
        self.lost_at_row: int | None = None

    def stage(self, name: str) -> None:
        """Nothing to tell."""

    def start(self, total_rows: int) -> None:
        """Nothing to tell."""

    def kept(self, units: int, rows: int, images: int) -> None:
        """Not asked for."""

    def advance(self, rows: int, rejected: int) -> None:
        """Count, and act once."""
        self.rows += rows
        if self.lost_at_row is None and self.rows >= self._half:
            self.lost_at_row = self.rows
            self._cluster.remove_node(self._machine, allow_graceful=False)

    def lanes(self, seconds: Mapping[str, float]) -> None:
        """Not asked for."""

    def done(self) -> None:
        """Told by the build's return."""


def main() -> None:
    """Run it and write benchmarks/results/ray-lost-machine.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--unit-rows", type=int, default=500)
    options = parser.parse_args()
    corpus = write_corpus(options.bed, options.pairs)
    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu", dtype="float32")
    configs = {}
    for name in ("local", "ray"):
        shutil.rmtree(options.bed / name, ignore_errors=True)
        configs[name] = BuildConfig((str(corpus),), options.bed / name, unit_rows=options.unit_rows, workers=1)
    local = build(configs["local"], encoder)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        machines = [cluster.add_node(num_cpus=1) for _ in range(MACHINES)]
        loss = Loss(cluster, machines[1], options.pairs)
        with connected(cluster.address):
            source = EncoderSource(str(tiny_clip_directory()), None, "cpu", "float32")
            started = time.perf_counter()
            engine = RayEngine(configs["ray"], source, encoder.fingerprint.record())
            result = build(configs["ray"], encoder, loss, engine=engine)
            seconds = time.perf_counter() - started
    finally:
        cluster.shutdown()
    units = [unit.id for segment in read_manifest(configs["ray"].memory).segments for unit in segment.units]
    write_result(
        "ray-lost-machine",
        {
            "pairs": options.pairs,
            "unit_rows": options.unit_rows,
            "machines": MACHINES,
            "lost_at_row": loss.lost_at_row,
            "build_s": round(seconds, 1),
            "items": result.num_items,
            "items_local": local.num_items,
            "units": len(units),
            "units_twice": len(units) - len(set(units)),
            "rows_told": loss.rows,
            "digest_equal": result.digest == local.digest,
        },
    )


if __name__ == "__main__":
    main()
