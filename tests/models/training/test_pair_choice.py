"""A design for single pairs is chosen by whether held-out pairs find their own, and the command takes it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from memory import Memory
from models.checkpoint import load_fusion
from models.checkpoint_files import read_config
from models.training import TrainingPairs, pair_choice
from models.training.dataset.split import split_by_key
from models.training.lead import Lead
from models.training.pair_choice import PairCandidate, PairChoice, choose_for_pairs
from reco.cli import app

GATE, COPY = PairCandidate("gate", 1e-2, 0.5, 80.0), PairCandidate("copy", 3e-5, 0.4, 82.0)


@pytest.fixture
def single_pairs(make_memory: Callable[..., Memory], tmp_path: Path) -> Memory:
    """120 pairs, no two captions alike; text and image of a pair lie close together, as strong names do."""
    dice = np.random.default_rng(3)
    image = dice.standard_normal((120, 64))
    text = image + 0.5 * dice.standard_normal(image.shape)
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    keys = [f"shop/{number}" for number in range(120)]
    return make_memory(tmp_path / "memory", image, text, keys=keys, captions=[f"article {key}" for key in keys])


def test_the_lowest_loss_is_taken_if_it_is_below_the_frozen_encoders() -> None:
    gains = PairChoice((0.45, 81.0), (COPY, GATE), 1234, (Lead("frozen", 0.05, 0.03),))
    assert (gains.gains, gains.best) == (True, COPY)
    assert "design copy, rate 3e-05, by its loss: copy at 3e-05 82.0, gate at 0.01 80.0, frozen 81.0" in gains.reason
    assert "(% of 1,234 held-out pairs" in gains.reason
    assert "its loss is ahead of frozen by 0.050 ± 0.030, within noise" in gains.reason
    none = PairChoice((0.3, 90.0), (COPY, GATE), 1234)
    assert (none.gains, none.best) == (False, GATE)
    assert "expect no gain" in none.reason


def test_what_a_memory_knows_shows_in_the_choice(named_memory: Memory) -> None:
    """Names mean nothing to this encoder, and equal captions are right for each other."""
    pairs = TrainingPairs.from_memory(named_memory, np.arange(240))
    choice = choose_for_pairs(pairs, k=5)
    assert choice.gains
    assert choice.best.found > choice.frozen[1] + 20
    assert choice.leads[-1].by == pytest.approx(choice.frozen[0] - choice.candidates[0].loss, abs=1e-4)
    assert choice.asked == 48
    assert [one.loss for one in choice.candidates] == sorted(one.loss for one in choice.candidates)


def test_the_frozen_encoder_is_measured_on_the_held_out_pairs(single_pairs: Memory) -> None:
    pairs = TrainingPairs.from_memory(single_pairs, np.arange(120))
    choice = choose_for_pairs(pairs, k=5, seed=1)
    held_out = torch.randperm(120, generator=torch.Generator().manual_seed(1))[:24].sort().values.numpy()
    scores = single_pairs.rows("text", held_out) @ single_pairs.rows("image", held_out).T
    right = np.arange(24)
    expected = ((scores.argmax(1) == right).mean() + (scores.argmax(0) == right).mean()) * 50
    assert choice.frozen[1] == pytest.approx(expected)


@pytest.fixture
def five_captions(make_memory: Callable[..., Memory], tmp_path: Path) -> Memory:
    """60 images with five captions each, no two alike."""
    dice = np.random.default_rng(4)
    image = dice.standard_normal((60, 64)).repeat(5, axis=0)
    text = image + 0.8 * dice.standard_normal(image.shape)
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    keys = [f"shop/{number}" for number in range(300)]
    contents = [f"image {number // 5}" for number in range(300)]
    captions = [f"words {key}" for key in keys]
    return make_memory(tmp_path / "several", image, text, keys=keys, captions=captions, contents=contents)


def test_captions_of_one_image_are_not_torn_apart_and_right_for_each_other(
    five_captions: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[list[TrainingPairs]] = [[], []]
    teach, look = pair_choice.train, pair_choice._measure
    monkeypatch.setattr(
        pair_choice, "train", lambda shown, *rest, **more: parts[0].append(shown) or teach(shown, *rest, **more)
    )
    monkeypatch.setattr(pair_choice, "_measure", lambda asks, *rest: parts[1].append(asks) or look(asks, *rest))
    monkeypatch.setattr(pair_choice, "EPOCHS", 1)
    pairs = TrainingPairs.from_memory(five_captions, np.arange(300))
    choice = choose_for_pairs(pairs, k=5)
    shown, asks = ({number // 5 for number in part[0].ids.tolist()} for part in parts)
    assert not shown & asks and len(shown | asks) == 60
    assert choice.asked == 60
    held_out = parts[1][0]
    same = (held_out.ids // 5).unsqueeze(0) == (held_out.ids // 5).unsqueeze(1)
    assert torch.equal(held_out.positives(torch.arange(60)), same)
    training, validation = split_by_key(five_captions, ["*"], [])
    assert not set(training // 5) & set(validation // 5)


def test_images_are_drawn_for_the_standard_error_not_their_captions(five_captions: Memory) -> None:
    pairs = TrainingPairs.from_memory(five_captions, np.arange(300))
    asked: list[torch.Tensor | None] = []
    of = Lead.of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lead, "of", lambda *given: asked.append(given[3] if len(given) > 3 else None) or of(*given))
        patch.setattr(pair_choice, "EPOCHS", 1)
        choose_for_pairs(pairs, k=5)
    assert asked and all(group is not None and torch.bincount(group).tolist() == [5] * 12 for group in asked)


def test_two_things_are_told_apart_however_large_they_are(make_memory: Callable[..., Memory], tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    image, text = (dice.standard_normal((160, 64)) for _ in range(2))
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    captions = [f"article {number // 40}" for number in range(160)]
    keys = [str(number) for number in range(160)]
    pairs = TrainingPairs.from_memory(
        make_memory(tmp_path / "memory", image, text, keys=keys, captions=captions), np.arange(160)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_choice, "EPOCHS", 1)
        assert choose_for_pairs(pairs, k=5).asked == 80
        with pytest.raises(ValueError, match="too few to hold some out"):
            choose_for_pairs(pairs.kept(torch.arange(120)), k=5)


def test_auto_takes_the_chosen_design_and_rate(single_pairs: Memory, tmp_path: Path) -> None:
    fusion = tmp_path / "fusion"
    arguments = ["train", str(single_pairs.path), "-o", str(fusion), "--k", "5", "--epochs", "2", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    told = " ".join(done.output.split())
    assert done.exit_code == 0, told
    design, rate = load_fusion(fusion).config.design, read_config(fusion)["trained"]["learning_rate"]
    assert f"design {design}, rate {rate:g}, by its loss" in told
    again = CliRunner().invoke(app, [*arguments, "--learning-rate", "0.002"])
    assert again.exit_code == 0
    assert read_config(fusion)["trained"]["learning_rate"] == 0.002


def test_no_more_pairs_are_searched_than_the_choice_looks_at(
    single_pairs: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.pair_choice.MOST_PAIRS", 50)
    arguments = ["train", str(single_pairs.path), "-o", str(tmp_path), "--k", "5", "--epochs", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "searching the neighbours of 50 pairs" in " ".join(done.output.split())
    assert "neighbours of 120 pairs" not in " ".join(done.output.split())
