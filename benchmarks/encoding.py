"""Pairs a second of `reco build`, beside the limit of its own parts and beside `clip-retrieval inference`.

    OMP_NUM_THREADS=2 python -m benchmarks.encoding --clip-retrieval path/to/its/venv/bin/python
    OMP_NUM_THREADS=2 python -m benchmarks.encoding --growth

Photo-like JPEGs of 640 x 480 are drawn, and a ViT-B/32 gets random weights, which cost what real ones cost. The limit
is 1 / (1/encode + decode CPU/cores): the encoder alone on decoded images with all cores, and the processor time of
decoding an image, thumbnail and hash with it, shared by the cores. Captions are encoded too, and counted in `encode`.
clip-retrieval reads the same tar with the same weights; rows/s are of its own statistics, loading not counted. Where
other programs compete for the cores, wall times mean little: the ratios of processor time are told too.

`--growth` builds from small images with the tests' tiny CLIP: peak memory from 1,000 to 100,000 rows (--rows), and what
an append of 1 % costs. Writes benchmarks/results/encoding.json, encoding-growth.json.
"""

import argparse
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from memory_builder import BuildConfig, build
from memory_builder.encoding.decoding import Candidate, decode_batch
from memory_builder.records import Record
from memory_builder.reporting.progress import Silent
from models.encoder import Encoder

log = logging.getLogger("encoding")

RESULTS = Path(__file__).parent / "results"
BATCH, UNIT_ROWS = 64, 128
GROWTH = (1000, 5000, 20_000, 50_000)  # and --rows
WORDS = "a small red bird on the branch of an old tree beside two umbrellas at night".split()  # noqa: SIM905


@dataclass(frozen=True)
class Span:
    """Seconds on the clock, and of processor time of all threads."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Span:
    """What some work takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Span(time.perf_counter() - wall, time.process_time() - cpu)


def photograph(dice: np.random.Generator, width: int, height: int) -> bytes:
    """A JPEG with the spectrum of a photograph, and grain: its entropy, not its looks, is what decoding costs."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / width) ** 1.2
    planes = [
        np.fft.irfft2(amplitude * np.exp(2j * np.pi * dice.random(amplitude.shape)), s=(height, width))
        for _ in range(3)
    ]
    colours = np.stack([planes[0] + 0.3 * plane for plane in planes], axis=-1)
    pixels = (colours - colours.mean()) / colours.std() * 50 + 120 + dice.normal(0, 2, colours.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def write_shard(path: Path, rows: range, size: tuple[int, int], distinct: int) -> list[tuple[bytes, str]]:
    """A webdataset tar of pairs; images repeat after `distinct`, with a comment that makes each file another."""
    dice = np.random.default_rng(rows.start)
    photographs = [photograph(dice, *size) for _ in range(min(distinct, len(rows)))]
    pairs = []
    with tarfile.open(path, "w") as archive:
        for number in rows:
            comment = f"{number:010d}".encode()
            data = photographs[number % len(photographs)]
            data = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
            caption = " ".join(dice.choice(WORDS, int(dice.integers(5, 15)))) + f" {number}"
            pairs.append((data, caption))
            for extension, content in (("jpg", data), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:08d}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return pairs


def write_vit(directory: Path) -> Path:
    """ViT-B/32 of random weights as a model directory."""
    directory.mkdir()
    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32")
    save_file(open_clip.CLIP(**config).state_dict(), directory / "open_clip_model.safetensors")
    preprocess = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (directory / "open_clip_config.json").write_text(text)
    return directory


class Stopwatch(Silent):
    """A Progress that takes the time of the encoding stage."""

    def __init__(self) -> None:
        self.begun = self.ended = Span(0.0, 0.0)

    def stage(self, name: str) -> None:
        now = Span(time.perf_counter(), time.process_time())
        if name == "encode":
            self.begun = now
        elif name == "segments":
            self.ended = now

    @property
    def span(self) -> Span:
        return Span(self.ended.wall - self.begun.wall, self.ended.cpu - self.begun.cpu)


def measure_parts(encoder: Encoder, pairs: list[tuple[bytes, str]]) -> dict[str, float]:
    """Seconds for each pair: encoding alone (wall and processor), and the processor time of decoding."""
    some = pairs[:BATCH]
    candidates = [Candidate(Record(str(n), text, partial(bytes, data), "")) for n, (data, text) in enumerate(some)]
    dtype = torch.uint8 if encoder.takes_raw else torch.float32
    pixels = torch.empty((len(some), 3, *encoder.preprocess.record["size"]), dtype=dtype)
    decode_batch(candidates[:8], encoder.preprocess, 96, pixels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for one another spend processor time, too
    decode = timed(lambda: decode_batch(candidates, encoder.preprocess, 96, pixels))
    torch.set_num_threads(threads)
    tokens = encoder.tokenize(sorted((text for _, text in some), key=len)).ids

    def encode() -> None:
        encoder.encode_image(pixels)
        encoder.encode_text(tokens)

    encode()
    spans = [timed(encode) for _ in range(8)]
    best = min(spans, key=lambda span: span.wall)
    return {
        "decode_cpu_s": decode.cpu / len(some),
        "encode_wall_s": best.wall / len(some),
        "encode_cpu_s": min(span.cpu for span in spans) / len(some),
    }


def run_speed(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """rows/s of the build and its limit for each dtype, and the other program's."""
    pairs = write_shard(place / "00000.tar", range(arguments.pairs), (640, 480), 64)
    model = write_vit(place / "model")
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "image_bytes": sum(len(data) for data, _ in pairs) // len(pairs),
        "build": [build_speed(dtype, pairs, place, model, arguments) for dtype in arguments.dtypes],
    }
    if arguments.clip_retrieval:
        theirs = run_clip_retrieval(arguments.clip_retrieval, place, model)
        found["clip_retrieval"] = theirs
        for ours in found["build"]:
            ours["over_clip_retrieval"] = ours["rows_per_s"] / theirs["rows_per_s"]
    return found


def build_speed(
    dtype: str, pairs: list[tuple[bytes, str]], place: Path, model: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """rows/s of a build with one dtype, and its limit: on a GPU that of the slower of encoder and decoders."""
    cores = len(os.sched_getaffinity(0))
    encoder = Encoder.open(str(model), device=arguments.device, dtype=dtype)
    parts = measure_parts(encoder, pairs)
    watch = Stopwatch()
    memory = place / f"memory-{dtype}"
    config = BuildConfig((str(place / "00000.tar"),), memory, unit_rows=arguments.unit_rows, batch_size=BATCH)
    result = build(config, encoder, watch)
    assert result.added == len(pairs), result
    again = measure_parts(encoder, pairs)  # before and after: the machine may have changed its mind in between
    parts = {name: (parts[name] + again[name]) / 2 for name in parts}
    decode_s = parts["decode_cpu_s"] / cores
    on_cpu = encoder.device == "cpu"  # where encoding and decoding share the cores
    limit = 1 / (parts["encode_wall_s"] + decode_s if on_cpu else max(parts["encode_wall_s"], decode_s))
    return {
        "dtype": encoder.dtype,
        "device": encoder.device,
        "cores": cores,
        **parts,
        "limit_rows_per_s": limit,
        "rows_per_s": len(pairs) / watch.span.wall,
        "of_limit": len(pairs) / watch.span.wall / limit,
        "cpu_s": watch.span.cpu / len(pairs),
        "parts_cpu_of_cpu": (parts["decode_cpu_s"] + parts["encode_cpu_s"]) * len(pairs) / watch.span.cpu,
    }


def run_clip_retrieval(python: str, place: Path, model: Path) -> dict[str, Any]:
    """The same tar and weights through `clip-retrieval inference`, batch and readers as it is used on a CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = Path(__file__).with_name("clip_retrieval_child.py")
    weights = model / "open_clip_model.safetensors"
    call = [python, child, place / "00000.tar", weights, place / "theirs", str(BATCH)]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"clip-retrieval failed: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        "rows": told["sample_count"],
        "rows_per_s": told["sample_count"] / told["total_duration"],
        "of_its_time_reading": told["read_duration"] / told["total_duration"],
        "dtype": "float32",
        "process_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def run_growth(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Peak memory by rows, and the cost of an append of 1 %, each build in a process of its own."""
    found: dict[str, Any] = {"peak_bytes": {}, "peak_own_bytes": {}, "rows_per_processor_s": {}}
    sizes = [rows for rows in GROWTH if rows < arguments.rows] + [arguments.rows]
    for rows in sizes:
        shard = place / f"small-{rows}.tar"
        write_shard(shard, range(rows), (64, 48), 200)
        told = _child(arguments.model, [shard], place / f"memory-{rows}")
        found["peak_bytes"][rows], found["peak_own_bytes"][rows] = told["peak_bytes"], told["peak_own_bytes"]
        found["rows_per_processor_s"][rows] = round(rows / told["cpu_s"], 1)
        peaks = told["peak_own_bytes"] / 1e6, told["peak_bytes"] / 1e6
        log.info("%7d rows: %.0f MB of its own, %.0f MB with mapped files, %.1f s", rows, *peaks, told["wall_s"])
    more = place / "more.tar"
    write_shard(more, range(10**7, 10**7 + arguments.rows // 100), (64, 48), 200)
    append = _child(arguments.model, [more], place / f"memory-{arguments.rows}")
    found |= {
        "growth_of_own": found["peak_own_bytes"][arguments.rows] / found["peak_own_bytes"][sizes[0]],
        "build_wall_s": told["wall_s"],
        "build_cpu_s": told["cpu_s"],
        "append_wall_s": append["wall_s"],
        "append_cpu_s": append["cpu_s"],
        "append_of_build": append["wall_s"] / told["wall_s"],
        "append_cpu_of_build": append["cpu_s"] / told["cpu_s"],
    }
    return found


def _child(model: str, shards: list[Path], memory: Path) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.encoding", "--child", model, str(memory), *map(str, shards)]
    return dict(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout))


def run_child(model: str, memory: str, *shards: str) -> None:
    """Build, and print what it took; the opening of the encoder is not counted."""
    encoder = Encoder.open(model, device="cpu")
    with OwnMemory() as own:
        span = timed(lambda: build(BuildConfig(shards, Path(memory)), encoder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {"peak_bytes": peak, "peak_own_bytes": own.peak_bytes}
    sys.stdout.write(json.dumps({"wall_s": span.wall, "cpu_s": span.cpu, **told}))


class OwnMemory:
    """The most anonymous memory that this process had: the resident set counts pages of mapped files too, which the
    system takes back when it likes."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.peak_bytes = max(self.peak_bytes, 1024 * kilobytes)
            if self._ended.wait(0.05):
                return


def machine() -> dict[str, Any]:
    """Where and when this was measured."""
    capabilities = [name for name, has in torch.cpu.get_capabilities().items() if has and name != "architecture"]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": "x86 cores, shared with other programs",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "capabilities": sorted(map(str, capabilities)),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Measure, print, and write the results."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--dtypes", nargs="+", default=["auto", "float32"])
    parser.add_argument("--device", default="cpu", help="of the encoder; a GPU's figures go to encoding-gpu.json")
    parser.add_argument("--unit-rows", type=int, default=UNIT_ROWS)
    parser.add_argument("--clip-retrieval", metavar="PYTHON", help="an interpreter that has clip-retrieval")
    parser.add_argument("--growth", action="store_true", help="memory and append instead of speed")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default=str(Path("demo/tiny_clip").resolve()), help="the tiny CLIP of --growth")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child)
        return
    with TemporaryDirectory(prefix="reco-encoding-") as place:
        found = (run_growth if arguments.growth else run_speed)(arguments, Path(place))
    result = {"machine": machine(), **found}
    speed = "encoding.json" if arguments.device == "cpu" else "encoding-gpu.json"
    name = "encoding-growth.json" if arguments.growth else speed
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    log.info("%s", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
