"""What the benchmarks of serving stand on: a ViT-B/32 with random weights, photographs, texts, a memory, a server.

Everything is made once under a folder (`--bed`) and found again. Random weights cost what trained ones cost and say
nothing about quality. Photographs are taken from a folder of yours (`--photos`), cut to 640×480 and saved as JPEG of
quality 90; without one they are drawn, and the result says so.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.measured_on import measured_on
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig

ARCHITECTURE = "ViT-B-32"
RESULTS = Path(__file__).parent / "results"
NUM_PHOTOS, NUM_TEXTS, D = 96, 512, 512
_WORDS = """
the of on in at with and to photo picture small large red green blue old young wooden white black man woman child dog
cat horse bird boat street table kitchen beach mountain river snow train bicycle umbrella sitting standing walking
playing holding looking under over next near front two three several people bowl fruit plate window evening light sky
grass field tree building sign bus market crowded empty
""".split()  # noqa: SIM905 - a list is read better in lines


@dataclass(frozen=True)
class Bed:
    """Where the parts are."""

    root: Path
    drawn: bool

    @property
    def encoder(self) -> Path:
        return self.root / "encoder"

    @property
    def photos(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((self.root / "photos").glob("*.jpg"))]

    @property
    def texts(self) -> list[str]:
        """Captions of 6 to 18 words, as captions are."""
        dice = random.Random(0)
        return [" ".join(dice.choices(_WORDS, k=dice.randint(6, 18))) for _ in range(NUM_TEXTS)]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks of serving have."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--bed", type=Path, default=Path("serving-bed"), help="folder for encoder, photos and memory")
    parser.add_argument("--photos", type=Path, help="folder of photographs, searched for JPEG files")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs in the memory")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=3, help="how often the alternatives take turns")
    return parser


def make_bed(options: argparse.Namespace) -> Bed:
    """Make what is missing."""
    root: Path = options.bed
    (root / "photos").mkdir(parents=True, exist_ok=True)
    if not (root / "encoder").is_dir():
        _write_encoder(root / "encoder")
    if not (root / "photos.json").is_file():
        _write_photos(root / "photos", options.photos)
        (root / "photos.json").write_text(json.dumps({"drawn": options.photos is None}))
    return Bed(root, json.loads((root / "photos.json").read_text())["drawn"])


def make_memory(bed: Bed, pairs: int, index: tuple[str, ...] = ()) -> Path:
    """A memory of random unit vectors around 1,000 centres, built by `reco build` itself, and a random fusion's home.

    Args:
        index: further options of `reco build`, for the index.
    """
    path = bed.root / f"memory-{pairs}"
    if not path.is_dir():
        arrays = bed.root / f"pairs-{pairs}.npz"
        _write_pairs(arrays, pairs)
        reco = [sys.executable, "-m", "reco.cli", "build", "--embeddings", str(arrays), "-o", str(path)]
        subprocess.run([*reco, "--model", str(bed.encoder), "--trust-model", *index], check=True)
        arrays.unlink()
    return path


def make_fusion(bed: Bed) -> Path:
    """The default design before it is fitted: it computes what a fitted one computes."""
    path = bed.root / "fusion"
    if not path.is_dir():
        record = Encoder.open(str(bed.encoder), device="cpu").fingerprint.record()
        save_fusion(path, Fusion(FusionConfig(design="evidence", embed_dim=D)), record)
    return path


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Print a result and keep it as benchmarks/results/NAME.json; parts that were not measured now stay as they are."""
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    kept = {name: {**known[name], **part} for name, part in result.items() if _both_have_parts(known.get(name), part)}
    path.write_text(json.dumps({**known, **measured_on(), **result, **kept}, indent=2) + "\n")
    print(json.dumps(result, indent=2))  # noqa: T201


def _both_have_parts(known: Any, found: Any) -> bool:
    return isinstance(known, dict) and isinstance(found, dict)


@dataclass(frozen=True)
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def cpu_seconds(self) -> float:
        """Processor time of the process and its children so far."""
        return sum(_cpu_seconds(pid) for pid in _family(self.process.pid))

    def own_cpu_seconds(self) -> float:
        """Processor time of the process itself so far, without those that decode for it."""
        return _cpu_seconds(self.process.pid)


@contextmanager
def reco_server(bed: Bed, memory: Path, *, fusion: Path | None = None, **settings: object) -> Iterator[Server]:
    """`reco serve`, ready, until the block ends."""
    values = {"model": bed.encoder, "memory": memory, "stamps": bed.root / "stamps", "log_format": "text", **settings}
    if fusion is not None:
        values["fusion"] = fusion
    environ = {f"RECO_{name.upper()}": str(value) for name, value in values.items()}
    with server([sys.executable, "-m", "reco.cli", "serve"], "/readyz", {**environ, "RECO_PORT": "{port}"}) as running:
        yield running


@contextmanager
def server(command: list[str], ready_path: str, environ: Mapping[str, str]) -> Iterator[Server]:
    """Any server: {port} in its command and environment becomes a free port; ready when `ready_path` answers 200."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    filled = {name: value.replace("{port}", str(port)) for name, value in environ.items()}
    words = [word.replace("{port}", str(port)) for word in command]
    with Path(os.environ.get("SERVING_LOG", os.devnull)).open("ab") as log:
        process = subprocess.Popen(words, env={**os.environ, **filled}, stdout=log, stderr=log)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}{ready_path}")
        yield Server(process, port)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback address
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server was not ready in time")


def _family(pid: int) -> list[int]:
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").glob("*") for child in (task / "children").read_text().split()
    ]
    return [pid, *(one for child in children for one in _family(child))]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _write_encoder(directory: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": model.visual.preprocess_cfg}
    draft = directory.with_suffix(".draft")
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, draft / "open_clip_model.safetensors"
    )
    shutil.move(draft, directory)


def _write_photos(directory: Path, source: Path | None) -> None:
    found = sorted(source.rglob("*.jpg")) if source else []
    random.Random(0).shuffle(found)
    for number in range(NUM_PHOTOS):
        if source:
            with Image.open(found[number]) as image:
                photo = _cut(image.convert("RGB"))
        else:
            photo = _drawn(number)
        photo.save(directory / f"{number:03d}.jpg", quality=90)


def _cut(image: Image.Image) -> Image.Image:
    """The middle of a photograph in the shape of 640×480."""
    width = min(image.width, image.height * 4 // 3)
    height = width * 3 // 4
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height)).resize((640, 480), Image.Resampling.LANCZOS)


def _drawn(number: int) -> Image.Image:
    """Clouds of several sizes: in JPEG about as many bytes as a photograph."""
    dice = np.random.default_rng(number)
    layers = []
    for size in (5, 20, 80, 320):
        noise = Image.fromarray(dice.integers(0, 256, (size * 3 // 4, size, 3), dtype=np.uint8))
        layers.append(np.asarray(noise.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.float32))
    return Image.fromarray(np.average(layers, axis=0, weights=[8, 4, 2, 1]).astype(np.uint8))


def _write_pairs(path: Path, pairs: int) -> None:
    dice = np.random.default_rng(0)
    centres = {side: dice.standard_normal((1000, D), dtype=np.float32) for side in ("image", "text")}
    owner = dice.integers(0, 1000, pairs)
    sides = {}
    for side, centre in centres.items():
        rows = np.empty((pairs, D), dtype=np.float16)
        for start in range(0, pairs, 65_536):
            block = centre[owner[start : start + 65_536]]
            block = block + dice.standard_normal(block.shape, dtype=np.float32)
            rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        sides[side] = rows
    captions = np.array([f"pair {number} of entity {one}" for number, one in enumerate(owner)])
    np.savez(path, **sides, caption=captions)
