"""Draws of a batch: a share of the memory, and names that the encoder is made not to know."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from memory import Memory
from models.training import TrainConfig, TrainingPairs, train
from models.training.dataset.draws import MemoryShare, NameNoise, lots
from models.training.gradients.batches import Batches, text_spread
from models.training.gradients.distributed import ALONE
from models.training.recipes import recipe


@pytest.fixture(scope="module")
def found(named_memory: Memory) -> TrainingPairs:
    return TrainingPairs.from_memory(named_memory, np.arange(240))


@pytest.fixture
def config() -> TrainConfig:
    plain = {"neighbour_dropout": 0.0, "random_k": 0.0, "miss": 0.0, "batch_size": 60}
    return recipe("copy", 128, k=5, **plain)


def test_lots_are_even_and_repeat() -> None:
    numbers = torch.arange(100_000)
    one, other = lots(numbers, 7), lots(numbers, 8)
    assert torch.equal(one, lots(numbers, 7))
    assert abs(one.mean() - 0.5) < 0.005
    assert abs((one < 0.1).float().mean() - 0.1) < 0.005
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.02
    assert torch.equal(lots(numbers.int(), 7), one)


def test_a_share_of_the_memory_hides_the_same_rows_from_both_sides(found: TrainingPairs, config: TrainConfig) -> None:
    config = replace(config, memory_share=0.3)
    shares = [MemoryShare.draw(0.3, torch.Generator().manual_seed(seed)) for seed in range(40)]
    drawn = [one.share for one in shares if one is not None]
    assert len(drawn) == 40
    assert 0.3 <= min(drawn) < 0.4 < 0.9 < max(drawn) <= 1
    share = shares[1]
    assert share is not None
    chosen = torch.arange(240)
    for modality in ("image", "text"):
        hidden = found.hidden(modality, chosen, share)  # type: ignore[arg-type]
        assert hidden is not None
        rows = found.candidates[modality].rows  # type: ignore[index]
        assert torch.equal(hidden, share.hides(torch.arange(240))[rows.long()])
        assert abs(hidden.float().mean() - (1 - share.share)) < 0.15
    sides = Batches(found, config, ALONE).draw(chosen[:60], torch.Generator().manual_seed(1))
    whole = Batches(found, replace(config, memory_share=1.0), ALONE).draw(chosen[:60], torch.Generator())
    assert sides.image.similarities.mean() < whole.image.similarities.mean() - 0.1  # most of the nearest are gone


def test_the_whole_memory_and_clean_names_throw_no_dice(config: TrainConfig) -> None:
    dice = torch.Generator().manual_seed(3)
    before = dice.get_state()
    assert MemoryShare.draw(1.0, dice) is None
    assert NameNoise.draw(config, 1.0, 128, dice) is None
    assert torch.equal(before, dice.get_state())


def test_name_noise_is_the_methods_formula() -> None:
    """t' = norm(t + sigma s g / sqrt(D)), one g a caption group, for a share of the groups."""
    config = replace(recipe("copy", 512), name_noise=1.5, name_noise_share=0.6)
    spread = 0.6
    texts = F.normalize(torch.randn(6000, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    group = torch.arange(6000) // 2
    dice, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    noise = NameNoise.draw(config, spread, 512, dice)
    assert noise is not None
    sigma = 1.5 * float(torch.rand(2, generator=again, dtype=torch.float64)[0])
    moved = noise.move(texts.clone(), group)
    same = (moved == texts).all(dim=1)
    assert abs((~same).float().mean() - 0.6) < 0.03
    assert torch.equal(same[::2], same[1::2])  # a caption moves as a whole
    expected = 1 / np.sqrt(1 + (sigma * spread) ** 2)  # cosine of t and t + noise of length sigma * s
    assert (moved * texts)[~same].sum(dim=1).mean() == pytest.approx(expected, abs=0.01)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(6000))


def test_the_query_and_its_captions_in_the_memory_move_together(found: TrainingPairs, config: TrainConfig) -> None:
    config = replace(config, name_noise=3.0, name_noise_share=1.0, fusion=replace(config.fusion, k=12))
    chosen, clean_config = torch.arange(60), replace(config, name_noise=0.0)
    sides = Batches(found, config, ALONE, spread=1.0).draw(chosen, torch.Generator().manual_seed(0))
    clean = Batches(found, clean_config, ALONE).draw(chosen, torch.Generator().manual_seed(0))
    assert torch.equal(sides.image.query, clean.image.query)
    assert (sides.text.query * clean.text.query).sum(dim=1).mean() < 0.9
    # An image finds the captions of its class, moved as the query text of that class was.
    rows = found.candidates["image"].rows[:60, :12].long()
    own = rows // 8 == (chosen // 8).unsqueeze(1)
    moved = sides.image.values - clean.image.values
    drift = (sides.text.query - clean.text.query).unsqueeze(1).expand_as(moved)
    cosine = F.cosine_similarity(moved, drift, dim=-1)
    assert cosine[own].mean() > 0.8
    assert cosine[~own].mean() < 0.3
    # A text's similarities are those of the moved texts, in their order.
    assert (sides.text.similarities.diff(dim=1) <= 1e-6).all()
    assert not torch.allclose(sides.text.similarities, clean.text.similarities, atol=1e-2)


def test_text_spread_is_the_mean_distance_to_the_mean(found: TrainingPairs, named_memory: Memory) -> None:
    text = named_memory.rows("text")
    expected = np.linalg.norm(text - text.mean(axis=0), axis=1).mean()
    assert text_spread(found, seed=0) == pytest.approx(expected, rel=0.02)


def test_training_with_every_draw_runs_and_repeats(found: TrainingPairs, config: TrainConfig) -> None:
    config = replace(config, epochs=2, memory_share=0.3, name_noise=1.0, miss=0.2, random_k=0.5, neighbour_dropout=0.2)
    one, two = train(found, config), train(found, config)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
