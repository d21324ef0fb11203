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
from models.training import TrainingPairs
from models.training.choice import Candidate, Choice, measure
from models.training.dataset.entities import by_caption
from models.training.dataset.entity_pairs import EntityPairs
from models.training.gradients import loop
from reco.cli import app
from reco.train_loop import Loop

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

    def make(rows: np.ndarray, images: np.ndarray, *, worded: bool = False) -> Memory:
        keys = [f"item/{number}" for number in range(len(rows))]
        told = [f"{captions[row]}, take {number}" if worded else captions[row] for number, row in enumerate(rows)]
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
    once = pairs.without_copies().sample(torch.Generator().manual_seed(0))
    assert measure(pairs, fusion, 5) > measure(once, fusion, 5) + 10  # what was told before
    assert f"refined {measure(once, fusion, 5, captions_name=True):.1f} % of 120 images" in told
    assert read_config(tmp_path / "fusion")["trained"]["pairs"] == 240


def test_entities_that_are_copies_of_one_image_are_none(dim: Callable[..., Memory], tmp_path: Path) -> None:
    """Three of ten entities have a second image, so that what is held out would be nothing."""
    rows = np.concatenate([[8 * one, 8 * one + 1] for one in range(10)])
    memory = dim(rows, np.where(rows >= 24, rows - rows % 2, rows))
    code, told = train(memory, tmp_path / "fusion", *EVIDENCE)
    told_few = "equal captions: 3 entities with two different images, copies of an image counting once, and the"
    assert (code, told_few in told) == (2, True), told
    code, told = train(memory, tmp_path / "fusion", "--k", "5", "--epochs", "1")
    assert (code, told_few in told, "held-out pairs" in told) == (0, True, True), told  # auto asks single pairs


def test_what_copies_leave_of_the_entities_is_told(dim: Callable[..., Memory], tmp_path: Path) -> None:
    rows = np.concatenate([[8 * one, 8 * one + 1] for one in range(10)])
    code, told = train(dim(rows, np.where(rows < 8, 0, rows)), tmp_path / "fusion", *EVIDENCE)
    assert code == 0, told
    assert "10 entities, 20 of 20 pairs show one" in told
    assert "2 pairs of 20 left out, for images that look alike count once: 9 entities left" in told


@pytest.mark.parametrize("seed", ["2", "3", "4"])
def test_evidence_needs_no_pairs_to_validate_on(dim: Callable[..., Memory], tmp_path: Path, seed: str) -> None:
    """With these seeds no caption of ten is among a random 5 %."""
    rows = np.concatenate([np.arange(8 * one, 8 * one + 4) for one in range(10)])
    memory = dim(rows, rows)
    code, told = train(memory, tmp_path / "fusion", *EVIDENCE, "--seed", seed)
    assert code == 0, told
    code, told = train(memory, tmp_path / "another", *EVIDENCE, "--set", f"seed={seed}")
    assert (code, "without effect" in told) == (0, False), told


def test_one_caption_for_all_pairs_is_told_to_be_no_lesson(dim: Callable[..., Memory], tmp_path: Path) -> None:
    code, told = train(dim(np.zeros(40, dtype=int), np.arange(40)), tmp_path / "fusion", "--k", "5")
    assert code == 2
    assert "1 entity with at least two pairs" in told
    assert "all 40 pairs have the same caption or image: there is nothing to tell apart" in told
    assert not (tmp_path / "fusion" / "work").exists()


def taught_to_copy(monkeypatch: pytest.MonkeyPatch) -> list[TrainingPairs]:
    """What `copy`, which is chosen, is trained and validated on from now on, by turns."""
    taught: list[TrainingPairs] = []
    teach = loop.train
    monkeypatch.setattr(
        "models.training.train", lambda pairs, *rest: taught.extend([pairs, rest[1]]) or teach(pairs, *rest)
    )
    copy = Choice(10.0, (Candidate("copy", 20.0),), (10, 2))
    monkeypatch.setattr("models.training.choice.choose", lambda *_, **__: copy)
    return taught


def test_what_is_trained_is_what_was_measured(
    dim: Callable[..., Memory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions are all different, so that only the names tell what belongs together."""
    memory = dim(np.arange(240), np.arange(240), worded=True)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {one}" for one in range(20)))
    taught = taught_to_copy(monkeypatch)
    options = ["--k", "5", "--epochs", "1"]
    runs: list[str] = []
    path = Loop._path
    monkeypatch.setattr(Loop, "_path", lambda *which: runs.append(path(*which).name) or path(*which))
    code, told = train(memory, tmp_path / "fusion", *options, "--names", str(names))
    assert code == 0, told
    shown, held_out = taught
    assert len(shown) + len(held_out) == 160  # of the 20 that are named
    for pairs in (shown, held_out):
        classes = torch.div(pairs.ids, 8, rounding_mode="floor")
        same = classes.unsqueeze(0) == classes.unsqueeze(1)
        assert torch.equal(pairs.positives(torch.arange(len(pairs))), same)
    assert not set((shown.ids // 8).tolist()) & set((held_out.ids // 8).tolist())

    names.write_text("\n".join(f"class {one}" for one in range(30)))
    everything = ["--validate", "item/23?"]
    for grouped in ([], ["--names", str(names)]):
        design = [] if grouped else ["--design", "copy"]
        assert train(memory, tmp_path / "fusion", *options, *everything, *grouped, *design)[0] == 0
    assert len(set(runs)) == 3, "a state belongs to its groups, too"
    assert torch.equal(taught[2].positives(torch.arange(8)), torch.eye(8, dtype=torch.bool))


def test_an_image_of_two_entities_is_not_torn_apart(
    dim: Callable[..., Memory], tmp_path: Path, make_memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entity has ten images, and each second one shares one with that before it, under another caption."""
    foggy = dim(np.arange(240), np.arange(240))
    entity = np.repeat(np.arange(24), 10)
    picture = np.arange(240)
    picture[10::20] -= 1  # the first of each second entity is the last of the one before
    memory = make_memory(
        tmp_path / "shared",
        foggy.rows("image")[picture],
        foggy.rows("text"),
        keys=[f"item/{number}" for number in range(240)],
        captions=[f"class {one}" for one in entity],
        contents=[f"picture {one}" for one in picture],
    )
    taught = taught_to_copy(monkeypatch)
    for seed in range(4):
        code, told = train(memory, tmp_path / "fusion", "--k", "5", "--epochs", "1", "--seed", str(seed))
        assert code == 0, told
    for shown, held_out in zip(taught[::2], taught[1::2], strict=True):
        pictures = [set(picture[part.ids].tolist()) for part in (shown, held_out)]
        assert not pictures[0] & pictures[1]
        assert len({int(one) for one in held_out.group[held_out.ids]}) >= 2  # entities stay what is to be told apart


def test_options_that_the_chosen_design_does_not_know_are_told(named_memory: Memory, tmp_path: Path) -> None:
    given = ["--epochs", "3", "--learning-rate", "auto", "--amp"]
    code, told = train(named_memory, tmp_path / "fusion", "--k", "5", *given)
    assert code == 0, told
    assert "design evidence" in told
    assert "without effect: --epochs, --learning-rate, --amp; evidence is computed" in told
    assert "--validate" not in told


def test_evidence_validates_on_no_pairs_and_says_so(named_memory: Memory, tmp_path: Path) -> None:
    options = ["--k", "5", "--validate", "00/*"]
    code, told = train(named_memory, tmp_path / "fusion", "--design", "evidence", *options)
    assert code == 2
    assert "--validate is for designs trained by gradient: leave it out" in told
    code, told = train(named_memory, tmp_path / "fusion", *options)
    assert code == 0, told
    assert "the pairs of --validate are left out, and evidence validates on none" in told
