"""A small drawn world, served by `reco serve` as a person would, and a Chromium to look at it with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served_process import free_port, wait_until_ready

from demo.captions import PROMPTS
from demo.clip import tiny_clip_directory
from demo.shots import species_shot
from demo.species import species_of
from evaluation.report import Evaluated, write_report
from evaluation.run import EvalConfig, evaluate
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from memory import MODALITIES, Memory
from memory_builder import BuildConfig, build
from memory_builder.reporting.progress import Silent
from models.checkpoint import save_fusion
from models.checkpoint_files import checkpoint_id
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from service.door.keys import key_line, new_key

SPECIES = species_of("unseen")[:12]
PAIRS = 8
OPERATOR_KEY = new_key()


@pytest.fixture(scope="session")
def world(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of twelve species, a memory of them with thumbnails, a fusion, and two pictures to try."""
    root = tmp_path_factory.mktemp("world")
    (root / "pairs").mkdir()
    (root / "samples").mkdir()
    for species in SPECIES:
        for number in range(PAIRS):
            shot = species_shot(species, "browser", number)
            (root / "pairs" / f"{species.slug}-{number}.png").write_bytes(shot.png())
            (root / "pairs" / f"{species.slug}-{number}.txt").write_text(f"a photo of a {species.name}")
    listed = []
    for species in SPECIES[:2]:
        (root / "samples" / f"{species.slug}.png").write_bytes(species_shot(species, "browser", 99).png())
        names = [one.name for one in SPECIES]
        listed.append({"file": f"{species.slug}.png", "title": species.name, "answer": species.name, "labels": names})
        listed[-1]["templates"] = list(PROMPTS)
    (root / "samples" / "samples.json").write_text(json.dumps({"samples": listed}))

    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu")
    build(BuildConfig((str(root / "pairs"),), root / "memory"), encoder, Silent())
    with Memory.open(root / "memory") as memory:
        images, texts = (torch.from_numpy(memory.rows(modality)) for modality in MODALITIES)
        entities = np.unique(memory.captions(), return_inverse=True)[1]
    pairs = EntityPairs(images, texts, torch.from_numpy(entities))
    fusion = fit_evidence(pairs, FusionConfig("evidence", images.shape[1], k=5))
    save_fusion(root / "fusion", fusion, encoder.fingerprint.record())
    write_evaluation(root, fusion)
    (root / "keys").write_text(key_line("tester", ("operator",), OPERATOR_KEY) + "\n")
    return root


def write_evaluation(root: Path, fusion: Fusion) -> None:
    """As `reco eval MEMORY FUSION … -o FUSION/evaluation` would: the memory's own items, named."""
    with Memory.open(root / "memory") as memory:
        captions = memory.captions()
        names = sorted(set(captions))
        texts = np.stack([memory.rows("text")[captions.index(name)] for name in names]).astype(np.float32)
        labels = np.array([names.index(caption) for caption in captions])
        images = memory.rows("image").astype(np.float32)
        task = EvalTask("twelve species", ZeroShotTask(images, labels, texts), names, [f"{row}" for row in labels])
        config = EvalConfig(curves=True)
        ids = {checkpoint_id(root / "fusion"): fusion}
        shown = Evaluated(memory, ids, [{}], config, "both")
        write_report(root / "fusion" / "evaluation", shown, [evaluate(task, memory, [fusion], config)])


@contextmanager
def serving(world: Path, **changes: str | None) -> Iterator[str]:
    """`reco serve` on a free port; None takes a setting away."""
    port = free_port()
    settings = {
        "RECO_MODEL": str(tiny_clip_directory()),
        "RECO_MEMORY": str(world / "memory"),
        "RECO_FUSION": str(world / "fusion"),
        "RECO_SAMPLES": str(world / "samples"),
        "RECO_STAMPS": str(world / "stamps"),
        "RECO_API_KEYS_FILE": str(world / "keys"),
        "RECO_THREADS": "1",
        "RECO_PORT": str(port),
    } | changes
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    environment = kept | {name: value for name, value in settings.items() if value is not None}
    process = subprocess.Popen([sys.executable, "-m", "reco.cli", "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def site(world: Path) -> Iterator[str]:
    """The address of the served world."""
    with serving(world) as url:
        yield url


@pytest.fixture(scope="session")
def site_without_fusion(world: Path) -> Iterator[str]:
    """The same without a fusion and without samples."""
    with serving(world, RECO_FUSION=None, RECO_SAMPLES=None) as url:
        yield url


@pytest.fixture
def growing_site(world: Path, tmp_path: Path) -> Iterator[str]:
    """A site whose memory may change, for it is a copy."""
    shutil.copytree(world / "memory", tmp_path / "memory")
    with serving(world, RECO_MEMORY=str(tmp_path / "memory")) as url:
        yield url


@pytest.fixture
def closed_site(world: Path, tmp_path: Path) -> Iterator[str]:
    """A site that asks everybody for a key, and has no operator."""
    (tmp_path / "keys").write_text(key_line("reader", ("use",), OPERATOR_KEY) + "\n")
    with serving(world, RECO_API_KEYS_FILE=str(tmp_path / "keys")) as url:
        yield url


@pytest.fixture(scope="session")
def operator_key() -> str:
    """The key that `site` and `growing_site` know as an operator's, and `closed_site` as a reader's."""
    return OPERATOR_KEY


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; the suite is skipped, with the reason, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: install the package `chromium` for `make browser`")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")
    with playwright.sync_playwright() as driver:
        # --no-sandbox: Chromium's own needs what a container does not give; it visits this service only.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[OpenPage]:
    """Open an address in a context of its own; at the end no page may have logged an error or left its service."""
    contexts, complaints, strangers = [], [], []

    def visit(url: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        home = ("blob:", url.partition("#")[0])
        page.on("request", lambda asked: None if asked.url.startswith(home) else strangers.append(asked.url))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    # A refused request is written to the console by the browser itself: the tests of errors ask for that.
    assert not [line for line in complaints if "Failed to load resource" not in line]
    assert not strangers
