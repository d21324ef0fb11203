"""The loop: what it draws, that it learns to look up, that seeds and validation do what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from memory import Memory
from models.fusion import Design, Fusion
from models.training import EpochReport, TrainingPairs, train
from models.training.gradients.batches import Batches
from models.training.gradients.distributed import ALONE
from models.training.gradients.loop import draw_neighbours, validation_loss
from models.training.recipes import recipe

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def looked_up(memory: Memory, fusion: Fusion, fresh_pairs: Pairs, names: Pairs) -> float:
    """Share of fresh images whose class name, unknown to the encoder, is nearest; both sides refined."""
    image, _, classes = fresh_pairs
    _, text, _ = names
    sides = []
    for modality, queries in (("image", image), ("text", text)):
        queries = queries.astype(np.float32)
        found = memory.search(queries, fusion.config.k, modality=modality)  # type: ignore[arg-type]
        parts = (queries, found.values, found.similarities, found.mask)
        sides.append(fusion.side(modality)(*map(torch.from_numpy, parts)).numpy())  # type: ignore[arg-type]
    return float(((sides[0] @ sides[1].T).argmax(axis=1) == classes).mean())


@pytest.mark.parametrize("design", ["faithful", "copy", "gate"])
def test_every_design_learns_to_look_names_up(
    named_memory: Memory, fresh_pairs: Pairs, names: Pairs, design: Design
) -> None:
    """The frozen embeddings know no name (chance: 1 in 30); the memory does."""
    found = TrainingPairs.from_memory(named_memory, np.arange(240))
    config = recipe(design, 128, k=5, epochs=12, batch_size=60)
    image, _, classes = fresh_pairs
    frozen = ((image @ names[1].T).argmax(axis=1) == classes).mean()
    assert frozen < 0.15
    found_out = looked_up(named_memory, train(found, config), fresh_pairs, names)
    assert found_out > {"copy": 0.9, "gate": 0.4, "faithful": 0.4}[design]


def test_equal_seeds_train_equal_fusions_and_other_seeds_others(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(60))
    config = recipe("copy", 128, k=5, epochs=2, batch_size=30)
    one, two = train(found, config), train(found, config)
    other = train(found, replace(config, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.image.step, other.image.step)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("start", [100.0, 150.0])
def test_the_logit_scale_comes_down_again_from_its_limit(named_memory: Memory, start: float) -> None:
    """A clamp in the loss has no gradient at the limit and beyond: once there, the scale had stayed."""
    found = TrainingPairs.from_memory(named_memory, np.arange(240))
    config = recipe("gate", 128, k=5, epochs=2, batch_size=60)
    fusion = Fusion(config.fusion)
    fusion.logit_scale.data.fill_(math.log(start))
    assert 14 < float(train(found, config, fusion=fusion).scale) < 99


def test_the_logit_scale_never_leaves_its_range(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(240))
    config = recipe("gate", 128, k=5, epochs=1, batch_size=30, learning_rate=10.0)
    for start in (1.0, 100.0):
        fusion = Fusion(config.fusion)
        fusion.logit_scale.data.fill_(math.log(start))
        assert 1 <= float(train(found, config, fusion=fusion).scale) < 100.001


def test_the_epoch_that_validates_best_is_kept(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(120))
    held_out = TrainingPairs.from_memory(named_memory, np.arange(120, 240))
    config = recipe("copy", 128, k=5, epochs=4, batch_size=60, learning_rate=0.05)  # far too high: it will wander
    reports: list[EpochReport] = []
    fusion = train(found, config, held_out, reports.append)
    assert [one.epoch for one in reports] == [1, 2, 3, 4]
    best = min(one.validation for one in reports)
    assert math.isclose(validation_loss(fusion, held_out, config), best, rel_tol=1e-5)


def test_validation_is_in_batches_of_one_size(named_memory: Memory) -> None:
    """A few pairs more must not show as another loss: left for a small batch, they halved it or more."""
    config = recipe("copy", 128, k=5, batch_size=60)
    fusion = Fusion(config.fusion)
    losses = []
    for count in (122, 123, 130, 140):
        pairs = TrainingPairs.from_memory(named_memory, np.arange(count))
        parts = Batches(pairs, config, ALONE).even()
        assert sorted(torch.cat(parts).tolist()) == list(range(count))
        sizes = [len(part) for part in parts]
        assert len(sizes) == 3
        assert max(sizes) - min(sizes) <= 1
        losses.append(validation_loss(fusion, pairs, config))
    assert max(losses) / min(losses) < 1.1


def test_the_loss_of_an_epoch_is_the_mean_of_its_pairs(named_memory: Memory) -> None:
    """Twelve random pairs out of 132 are a small batch, whose loss is small: a twelfth of it counts."""
    pairs = TrainingPairs.from_memory(named_memory, np.arange(132))
    config = recipe("copy", 128, k=5, epochs=1, batch_size=120, learning_rate=1e-9)
    reports: list[EpochReport] = []
    train(pairs, config, report=reports.append)
    whole = validation_loss(Fusion(config.fusion), pairs.kept(torch.arange(120)), config)
    assert reports[0].loss > 0.85 * whole


@pytest.mark.parametrize("count", [120, 121, 122])
def test_the_rate_falls_to_zero_whatever_is_left_for_the_last_batch(
    named_memory: Memory, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last pair alone makes no step: counted as one, it left the rate at half of its peak."""
    rates: list[float] = []
    adam = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or adam(self))
    pairs = TrainingPairs.from_memory(named_memory, np.arange(count))
    train(pairs, recipe("copy", 128, k=5, epochs=10, batch_size=120, learning_rate=1e-3))
    assert len(rates) == (20 if count == 122 else 10)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] < 0.05 * max(rates)


def test_a_last_step_that_ruins_the_weights_is_told(named_memory: Memory) -> None:
    """The loss before it was a number: only validation sees what came of it, and kept the untrained weights."""
    found = TrainingPairs.from_memory(named_memory, np.arange(60))
    held_out = TrainingPairs.from_memory(named_memory, np.arange(120, 180))
    config = recipe("copy", 128, k=5, epochs=1, batch_size=60, learning_rate=1e30)
    with pytest.raises(ValueError, match="lower learning rate than 1e\\+30"):
        train(found, config, held_out)


def test_drawn_neighbours_keep_order_and_obey_their_shares() -> None:
    config = replace(recipe("copy", 128, k=5), neighbour_dropout=0.5, random_k=0.4, miss=0.25, miss_rank=30)
    dice = torch.Generator().manual_seed(0)
    chosen, mask = draw_neighbours(4000, 60, config, dice)
    assert chosen.shape == mask.shape == (4000, 5)
    assert bool((chosen.diff(dim=1)[mask[:, 1:]] > 0).all())  # most similar first, none twice
    missed = (chosen[:, 0] >= 30).float().mean()
    assert abs(missed - 0.25) < 0.03
    fewer = (mask.sum(dim=1) < 5).float().mean()
    assert abs(fewer - 0.4 * 4 / 5) < 0.03  # a random k of 1..5 is 5 one time in five
    first = (chosen[:, 0] == 0).float().mean()
    assert abs(first - 0.75 * 0.5) < 0.03


def test_without_draws_the_nearest_k_are_taken() -> None:
    config = replace(recipe("copy", 128, k=5), neighbour_dropout=0.0, random_k=0.0, miss=0.0)
    chosen, mask = draw_neighbours(3, 12, config, torch.Generator().manual_seed(0))
    assert chosen.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert mask.all()


def test_one_pair_cannot_be_trained_on(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(1))
    with pytest.raises(ValueError, match="at least two"):
        train(found, recipe("copy", 128))
