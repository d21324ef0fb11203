"""A small memory, a fusion with random weights, and the service on a real port: what every service test stands on."""

import asyncio
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
import uvicorn

from memory import ITEMS_SCHEMA, Contents, Rows, UnitRecord, build_index, publish, read_manifest, write_segment
from memory.format.publish import publish_next
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from service.app import create_app
from service.pipeline.engine import Engine, FloatArray
from service.serving import server_config
from service.settings import Settings

NUM_ITEMS = 24
CAPTIONS = [f"a photo of a {colour} {bird}" for colour in ("red", "brown", "grey") for bird in (
    "songbird", "duck", "raptor", "parrot", "hummingbird", "swift", "wader", "bird",
)]  # fmt: skip


def write_memory(root: Path, encoder: Encoder) -> Path:
    """A memory of `NUM_ITEMS` pairs: captions encoded for real, images near them."""
    texts = encoder.encode_text(encoder.tokenize(CAPTIONS).ids)
    noise = np.random.default_rng(0).normal(size=texts.shape).astype(np.float32)
    images = texts + 2.0 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    return write_pairs(root, encoder, CAPTIONS, images, texts)


def write_pairs(root: Path, encoder: Encoder, captions: list[str], images: FloatArray, texts: FloatArray) -> Path:
    """A memory of these pairs: images and texts (N, D) unit norm."""
    count = len(captions)
    columns = {
        "key": [f"pair-{row:03d}" for row in range(count)],
        "caption": captions,
        "source": ["test"] * count,
        "content_sha256": [hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)],
        "thumbnail": [None] * count,
    }
    rows = Rows(images.astype(np.float16), texts.astype(np.float16), pa.table(columns, schema=ITEMS_SCHEMA))
    segments = (write_segment(root, [rows], [UnitRecord("unit-0", count)]),)
    indexes = {modality: build_index(root, segments, modality) for modality in ("image", "text")}
    fingerprint = encoder.fingerprint
    contents = Contents(
        encoder=fingerprint.record(), encoded_with=fingerprint.encoded_with(), segments=segments, indexes=indexes
    )
    publish(root, contents)
    return root


def add_pair(root: Path, encoder: Encoder, caption: str, key: str) -> int:
    """Commit a version with one more pair, its image where its caption is; the version's number."""
    text = encoder.encode_text(encoder.tokenize([caption]).ids).astype(np.float16)
    columns = {
        "key": [key],
        "caption": [caption],
        "source": ["test"],
        "content_sha256": ["0" * 64],
        "thumbnail": [None],
    }
    rows = Rows(text, text, pa.table(columns, schema=ITEMS_SCHEMA))
    manifest = read_manifest(root)
    segments = (*manifest.segments, write_segment(root, [rows], [UnitRecord(key, 1)]))
    indexes = {modality: build_index(root, segments, modality) for modality in ("image", "text")}
    return publish_next(root, manifest, segments=segments, indexes=indexes).version


@pytest.fixture(scope="session", name="add_pair")
def pair_adder() -> Callable[[Path, Encoder, str, str], int]:
    """`add_pair`, for tests that grow a memory behind a service's back."""
    return add_pair


@pytest.fixture(scope="session", name="write_pairs")
def pairs_writer() -> Callable[..., Path]:
    """`write_pairs`, for tests with a memory of their own."""
    return write_pairs


def draw_fusion(seed: int = 1) -> Fusion:
    """A fusion whose answer differs clearly from its query: weights are drawn, not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fusion = Fusion(FusionConfig(design="copy", embed_dim=128, k=4))
        with torch.no_grad():
            for parameter in fusion.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return fusion.eval()


@pytest.fixture(scope="session", name="draw_fusion")
def fusion_drawer() -> Callable[[int], Fusion]:
    """`draw_fusion`, for tests with a fusion of their own."""
    return draw_fusion


@pytest.fixture(scope="session")
def memory_dir(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The memory's directory, version 1."""
    return write_memory(tmp_path_factory.mktemp("memory"), encoder)


@pytest.fixture(scope="session")
def fusion_dir(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fusion checkpoint."""
    directory = tmp_path_factory.mktemp("fusion")
    save_fusion(directory, draw_fusion(), encoder.fingerprint.record())
    return directory


@pytest.fixture
def own_memory(memory_dir: Path, tmp_path: Path) -> Path:
    """A copy of the small memory, to be changed."""
    return shutil.copytree(memory_dir, tmp_path / "memory")


SettingsFactory = Callable[..., Settings]


@pytest.fixture(scope="session")
def make_settings(
    encoder_dir: Path, memory_dir: Path, fusion_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> SettingsFactory:
    """Settings of the small service, with changes."""
    stamps = tmp_path_factory.mktemp("stamps")

    def make(**changes: Any) -> Settings:
        values = {
            "model": str(encoder_dir),
            "memory": str(memory_dir),
            "fusion": str(fusion_dir),
            "stamps": str(stamps),
            "device": "cpu",
            "dtype": "float32",
            "served_model_name": "tiny-clip",
            "decode_workers": 2,
            "threads": 1,
            "port": 0,
        }
        return Settings(**(values | changes))

    return make


@pytest.fixture(scope="session")
def settings(make_settings: SettingsFactory) -> Settings:
    """Settings of the small service."""
    return make_settings()


@pytest.fixture(scope="session")
def engine(settings: Settings) -> Engine:
    """The small service's engine, opened from disk."""
    return Engine.open(settings)


@dataclass(frozen=True)
class Running:
    """A service on a port of its own."""

    url: str
    client: httpx.Client
    app: Any
    loop: asyncio.AbstractEventLoop


@contextmanager
def running(settings: Settings, engine: Engine | None, tracing: Any = None) -> Iterator[Running]:
    """Serve with uvicorn in a thread until the block ends."""
    app = create_app(settings, engine, tracing)
    server = uvicorn.Server(server_config(app, settings))
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        url = f"http://{host}:{port}"
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Running(url, client, app, loops[0])
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive(), "the server did not stop"


def wait_until_loaded(client: httpx.Client) -> httpx.Response:
    """Ask `/readyz` until loading has ended, well or badly."""
    end = time.monotonic() + 60
    while True:
        answer = client.get("/readyz")
        if answer.json().get("reason") != "starting" or time.monotonic() > end:
            return answer
        time.sleep(0.02)


Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def serve(make_settings: SettingsFactory, engine: Engine) -> Serve:
    """Start a service with changed settings, on the session's engine unless another (or None) is given."""

    @contextmanager
    def start(
        *, engine: Engine | None = engine, ready: bool = True, tracing: Any = None, **changes: Any
    ) -> Iterator[Running]:
        with running(make_settings(**changes), engine, tracing) as service:
            if ready:
                answer = wait_until_loaded(service.client)
                assert answer.status_code == 200, answer.text
            yield service

    return start


@pytest.fixture(scope="session")
def service(serve: Serve) -> Iterator[Running]:
    """The small service, ready, for tests that change nothing of it."""
    with serve() as running_service:
        yield running_service


@pytest.fixture(scope="session")
def client(service: Running) -> httpx.Client:
    """A client of the small service."""
    return service.client
