"""The bootstrap against drawing images one by one, and its intervals against what they promise."""

import numpy as np
import pytest

from evaluation.bootstrap import Bootstrap


def drawn_one_by_one(outcomes: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The slow twin."""
    dice = np.random.default_rng(seed)
    n = len(outcomes)
    return np.stack([outcomes[dice.integers(0, n, n)].mean(axis=0) for _ in range(resamples)])


def test_it_draws_from_the_same_distribution_as_drawing_rows() -> None:
    dice = np.random.default_rng(1)
    outcomes = dice.integers(0, 3, size=(120, 2)) / 2
    fast, slow = Bootstrap(4000).means(outcomes), drawn_one_by_one(outcomes, 4000, 2)
    assert fast.shape == (4000, 2)
    np.testing.assert_allclose(fast.mean(axis=0), outcomes.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(fast.std(axis=0), slow.std(axis=0), rtol=0.06)
    # a row is drawn as a whole: the columns move together as they do in the rows
    np.testing.assert_allclose(np.corrcoef(fast.T)[0, 1], np.corrcoef(slow.T)[0, 1], atol=0.06)


def test_groups_are_drawn_as_a_whole() -> None:
    outcomes = np.array([1, 1, 1, 0, 0, 0, 1, 0], dtype=float)[:, None]
    groups = np.array([7, 7, 7, 2, 2, 2, 5, 9])
    means = Bootstrap(5000).means(outcomes, groups)[:, 0]
    units = [outcomes[groups == group, 0] for group in np.unique(groups)]
    dice = np.random.default_rng(3)
    slow = np.array([np.concatenate([units[i] for i in dice.integers(0, 4, 4)]).mean() for _ in range(5000)])
    np.testing.assert_allclose(means.std(), slow.std(), rtol=0.05)
    assert means.std() > 1.2 * Bootstrap(5000).means(outcomes).std()  # fewer independent things: wider


def test_the_interval_covers_what_it_promises() -> None:
    dice = np.random.default_rng(4)
    covered = 0
    for number in range(300):
        before = dice.random(150) < 0.6
        after = np.where(dice.random(150) < 0.2, dice.random(150) < 0.8, before)  # true gain 0.2 * (0.8 - 0.6)
        low, high = Bootstrap(400, seed=number).interval(
            Bootstrap(400, seed=number).means((after.astype(float) - before)[:, None])[:, 0]
        ) or (0, 0)
        covered += low <= 0.04 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_equal_seeds_give_equal_intervals_and_no_resamples_none() -> None:
    outcomes = np.random.default_rng(5).random((50, 1))
    first, second = (Bootstrap(200, seed=1).means(outcomes) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    none = Bootstrap(0)
    assert none.interval(none.means(outcomes)[:, 0]) is None


def test_an_outcome_that_never_varies_has_an_interval_of_no_width() -> None:
    means = Bootstrap(100).means(np.full((20, 1), 0.25))
    assert Bootstrap(100).interval(means[:, 0]) == pytest.approx((0.25, 0.25))
