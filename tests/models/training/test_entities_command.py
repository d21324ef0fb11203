"""`reco train` on pairs grouped by entity: what it tells of them, and the groups that are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from memory import Memory
from models.checkpoint import load_fusion
from models.checkpoint_files import read_config
from models.training.choice import measure
from models.training.dataset.entities import by_caption
from models.training.dataset.entity_pairs import EntityPairs
from reco.cli import app

EVIDENCE = ["--design", "evidence", "--k", "5"]


def train(memory: Memory, output: Path, *options: str) -> tuple[int, str]:
    """Exit code, and what was said as one line."""
    result = CliRunner().invoke(app, ["train", str(memory.path), "-o", str(output), "--device", "cpu", *options])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def dim(named_memory: Memory, make_memory: Callable[..., Memory], tmp_path: Path) -> Callable[..., Memory]:
    """The named memory seen through thick fog, so that not all is named rightly; items as told, in that order."""
    dice = np.random.default_rng(0)
    image = named_memory.rows("image") + 2.0 * dice.standard_normal((240, 128)) / np.sqrt(128)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text, captions = named_memory.rows("text"), named_memory.captions()

    def make(rows: np.ndarray, images: np.ndarray) -> Memory:
        keys = [f"item/{number}" for number in range(len(rows))]
        told = [captions[row] for row in rows]
        return make_memory(tmp_path / "memory", image[images], text[rows], keys=keys, captions=told)

    return make


def test_the_accuracy_told_is_that_without_copies_of_an_image(dim: Callable[..., Memory], tmp_path: Path) -> None:
    """An image that asks would find its own copy, with a caption of its entity, in the half that answers."""
    rows = np.arange(240)
    memory = dim(np.concatenate([rows, rows]), np.concatenate([rows, rows]))  # each image twice
    code, told = train(memory, tmp_path / "fusion", *EVIDENCE)
    assert code == 0, told
    fusion = load_fusion(tmp_path / "fusion")
    pairs = EntityPairs.from_memory(memory, by_caption(memory.captions()))
    once = pairs.sample(torch.Generator().manual_seed(0))
    assert measure(pairs, fusion, 5) > measure(once, fusion, 5) + 10  # what was told before
    assert f"refined {measure(once, fusion, 5):.1f} % of 120 images" in told
    assert read_config(tmp_path / "fusion")["trained"]["pairs"] == 240
