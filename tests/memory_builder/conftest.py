"""Small corpora, made by Pillow, and what a test needs to build a memory from them."""

import io
import random
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from memory_builder import BuildConfig, BuildResult, build
from models.encoder import Encoder

COLOURS = ("red", "green", "blue", "yellow", "brown", "grey", "black", "white", "crimson")


def draw(seed: int, size: int = 64) -> bytes:
    """A small picture that differs from every other seed's."""
    dice = random.Random(seed)
    image = Image.new("RGB", (size, size * 3 // 4), tuple(dice.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        box = sorted(dice.randrange(size) for _ in range(2)) + sorted(dice.randrange(size) for _ in range(2))
        pen.ellipse((box[0], box[2], box[1], box[3]), fill=tuple(dice.randrange(256) for _ in range(3)))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def caption_of(seed: int) -> str:
    """A caption; some seeds share theirs."""
    return f"a {COLOURS[seed % 9]} bird with {COLOURS[seed // 9 % 9]} wing, number {seed // 2}"


def _write_folder(root: Path, seeds: Iterable[int]) -> Path:
    for seed in seeds:
        path = root / f"{seed // 10:03d}" / f"{seed:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw(seed))
        path.with_suffix(".txt").write_text(caption_of(seed) + "\n")
    return root


def _write_shard(path: Path, seeds: Iterable[int]) -> Path:
    with tarfile.open(path, "w") as archive:
        for seed in seeds:
            for extension, data in (("jpg", draw(seed)), ("txt", caption_of(seed).encode())):
                member = tarfile.TarInfo(f"{seed:05d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def write_folder() -> Callable[[Path, Iterable[int]], Path]:
    """Write a folder corpus of pairs `<seed // 10>/<seed>.jpg` and return it."""
    return _write_folder


@pytest.fixture(scope="session")
def write_shard() -> Callable[[Path, Iterable[int]], Path]:
    """Write a WebDataset tar of pairs `<seed>.jpg`, `<seed>.txt` and return it."""
    return _write_shard


@pytest.fixture
def run(tmp_path: Path, encoder: Encoder) -> Callable[..., BuildResult]:
    """Build from the corpora given into tmp_path/memory, in small units; settings by name."""

    def run_build(*corpora: Path | str, **settings: Any) -> BuildResult:
        config = BuildConfig(corpora=tuple(map(str, corpora)), memory=tmp_path / "memory", unit_rows=16, batch_size=8)
        return build(replace(config, **settings), encoder)

    return run_build
