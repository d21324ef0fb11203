"""Fixtures for every room: a tiny CLIP with random weights and a handful of generated photographs.

Nothing is downloaded: the encoder is built with open_clip's own classes from the demo's configuration, and its
byte-pair merges come from the word list below.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: several test runs share few cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before open_clip: a test that would download fails instead

import gzip
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from object_store import bucket, object_store  # noqa: F401 - pytest finds fixtures by their names here
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from served_process import free_port

from models.cores import usable_cores
from models.encoder import Encoder

_MOST_PROCESSES = 8  # of some 1.5 GB each

WORDS = """
a an the of on in at with and to photo picture drawing small large red green blue yellow brown grey black white crimson
bird songbird duck raptor parrot hummingbird swift wader head cap stripe mask hood collar bill crest tail wing bar
patch breast plain spotted streaked barred perched branch ground swimming flying water snow night rain umbrella two
three sitting standing under over forest meadow field guide species unseen halden tirrik velo
""".split()  # noqa: SIM905 - a list is read better in lines


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`pytest -n auto`: a process for each core that we may use; each keeps to one (OMP_NUM_THREADS, above)."""
    return min(usable_cores(), _MOST_PROCESSES)


def byte_pair_merges(words: list[str]) -> list[str]:
    """Merges that join each word from its left: short, in a fixed order, without repeats."""
    merges: dict[str, None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        joined = letters[0]
        for letter in letters[1:]:
            merges[f"{joined} {letter}"] = None
            joined += letter
    return list(merges)


def tiny_config(vocab_size: int) -> dict[str, Any]:
    """The open_clip configuration of the demo's encoder (2 million parameters)."""
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    text = {"context_length": 40, "vocab_size": vocab_size, "width": 96, "heads": 4, "layers": 2}
    return {
        "model_cfg": {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def write_encoder(directory: Path, *, seed: int = 0) -> Path:
    """Save a tiny CLIP with random weights as a directory that `Encoder.open` takes."""
    merges = byte_pair_merges(WORDS)
    config = tiny_config(vocab_size=512 + len(merges) + 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config["model_cfg"])
        _spread_embeddings(model)
    # A header line first; no line feed at the end, which would read as one more (empty) merge.
    (directory / "bpe.txt.gz").write_bytes(gzip.compress("\n".join(["#version: test", *merges]).encode(), mtime=0))
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    return directory


def _spread_embeddings(model: open_clip.CLIP) -> None:
    """Fit the batch statistics to varied images: untrained, all images would have almost one embedding."""
    noise = torch.randn(64, 3, 4, 4).repeat_interleave(16, dim=-1).repeat_interleave(16, dim=-2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.ones_(module.weight)
    with torch.no_grad():
        model.train().encode_image(noise)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that lie in a checkout or beside it, or where RECO_SHARED_DATA says; they are no part of it."""
    named = os.environ.get("RECO_SHARED_DATA")
    usual = [parent / "shared" / "data" for parent in Path(__file__).resolve().parents[1:3]]
    for directory in [Path(named)] if named else usual:
        if directory.is_dir():
            return directory
    pytest.skip("no real data here: set RECO_SHARED_DATA to a folder that has clip_vitb32/ and grocery/")


@pytest.fixture(scope="session")
def few_shot(shared_data: Path) -> Path:
    """Real embeddings of CLIP ViT-B/32: seven images of each of 1,000 classes, and the classes' names."""
    path = shared_data / "clip_vitb32" / "imagenet_fewshot.npz"
    if not path.is_file():
        pytest.skip(f"no clip_vitb32/{path.name} among the real data")
    return path


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny CLIP: 64 px images, D = 128, L = 40."""
    return write_encoder(tmp_path_factory.mktemp("encoder"), seed=0)


@pytest.fixture(scope="session")
def encoder(encoder_dir: Path) -> Encoder:
    """The tiny CLIP, opened on the CPU in float32."""
    return Encoder.open(str(encoder_dir), device="cpu", dtype="float32")


def draw_photo(size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A soft sky, a ground and a bird-like blob, with a little grain: compresses like a photograph."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    sky = np.stack([120 + 60 * y / height, 150 + 40 * x / width, 220 - 80 * y / height], axis=-1)
    grain = ((x * 7919 + y * 104729) % 13 - 6)[..., None]
    image = Image.fromarray(np.clip(sky + grain, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 3 // 4, width, height), fill=(90, 120, 50))
    draw.ellipse((width // 4, height // 3, width * 3 // 4, height * 2 // 3), fill=(150, 70, 40))
    draw.ellipse((width * 2 // 3, height // 4, width * 5 // 6, height // 2), fill=(170, 30, 50))
    return image


def encode_file(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def photo_bytes() -> dict[str, bytes]:
    """Name to file, all of one generated photograph: jpeg, png, png_alpha, webp, cmyk_jpeg, gif, avif."""
    photo = draw_photo()
    faded = photo.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(photo.size))
    return {
        "jpeg": encode_file(photo, "JPEG", quality=90),
        "png": encode_file(photo, "PNG"),
        "png_alpha": encode_file(faded, "PNG"),
        "webp": encode_file(photo, "WEBP", quality=90),
        "cmyk_jpeg": encode_file(photo.convert("CMYK"), "JPEG", quality=90),
        "gif": encode_file(photo, "GIF"),
        "avif": encode_file(photo, "AVIF", quality=90),
    }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: hundreds of builds wait for hundreds of fsyncs each."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=shm, prefix="reco-test-") as folder:
        yield Path(folder)


class MilvusLite:
    """Milvus Lite's gRPC server, in a process of its own on a port of its own; may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = Path(sys.executable).with_name("milvus-lite")
        command = [program, "server", "--data-dir", self._directory, "--host", "127.0.0.1", "--port", str(self.port)]
        with (self._directory.parent / "milvus.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self._process.poll() is None, (self._directory.parent / "milvus.log").read_text()[-2000:]
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError("Milvus Lite did not start")

    def kill(self) -> None:
        """End it as a fallen machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[MilvusLite]:
    """A Milvus Lite server with nothing in it."""
    server = MilvusLite(tmp_path / "milvus")
    server.start()
    yield server
    server.kill()
