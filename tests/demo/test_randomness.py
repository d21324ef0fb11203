"""Dice: the draws every picture and name of the demo world comes from must never change."""

import pytest

from demo.randomness import Dice


def test_a_stream_keeps_its_golden_values() -> None:
    dice = Dice("golden", 7)
    assert [dice.random(), dice.random()] == [0.1567492398698328, 0.9661995825448662]
    assert dice.uniform(-2, 2) == -1.5526611655985105
    assert [dice.integer(1, 6) for _ in range(6)] == [2, 6, 3, 6, 6, 6]
    assert dice.choice("abcdef") == "d"
    assert dice.sample("abcdef", 4) == ["b", "e", "f", "d"]
    assert [dice.chance(0.5) for _ in range(4)] == [True, False, False, False]


def test_equal_keys_give_equal_streams_and_other_keys_others() -> None:
    assert Dice("shot", 1).random() == Dice("shot/1").random()
    assert len({Dice("shot", number).random() for number in range(100)}) == 100


def test_integer_reaches_both_ends_and_nothing_else() -> None:
    dice = Dice("ends")
    assert {dice.integer(-1, 2) for _ in range(500)} == {-1, 0, 1, 2}
    assert dice.integer(3, 3) == 3


def test_uniform_stays_between_its_limits() -> None:
    dice = Dice("between")
    draws = [dice.uniform(0.82, 1.16) for _ in range(500)]
    assert 0.82 <= min(draws) < 0.83
    assert 1.15 < max(draws) <= 1.16


def test_chance_is_never_at_zero_and_always_at_one() -> None:
    dice = Dice("chance")
    assert not any(dice.chance(0) for _ in range(100))
    assert all(dice.chance(1) for _ in range(100))
    assert 150 < sum(dice.chance(0.22) for _ in range(1000)) < 290


def test_sample_takes_no_position_twice_and_leaves_the_options_alone() -> None:
    options = ("a", "b", "c", "d")
    dice = Dice("sample")
    shuffles = {tuple(dice.sample(options, 4)) for _ in range(500)}
    assert len(shuffles) == 24
    assert all(sorted(shuffle) == list(options) for shuffle in shuffles)
    assert dice.sample(options, 0) == []


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="key part"):
        Dice()
    with pytest.raises(ValueError, match="nothing to choose"):
        Dice("x").choice([])
    with pytest.raises(ValueError, match="cannot take 3 of 2"):
        Dice("x").sample("ab", 3)
    with pytest.raises(ValueError, match="no whole number"):
        Dice("x").integer(2, 1)
