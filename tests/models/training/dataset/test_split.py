"""What is trained on and what is validated on: whole captions, some of each even where there are few."""

import numpy as np
import pytest

from models.training.dataset.split import choose_keys, hold_out


def test_a_random_share_of_whole_groups_is_held_out() -> None:
    ids, group = np.arange(3, 1003), np.arange(1003) // 4
    training, validation = hold_out(ids, group, seed=1)
    assert sorted([*training, *validation]) == ids.tolist()
    assert not set(group[training]) & set(group[validation])
    assert 20 < len(validation) < 90
    assert not np.array_equal(validation, hold_out(ids, group, seed=2)[1])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (20,) * 8, (10,) * 20, (450, *(1,) * 550), (50, 5, 5, 1)])
def test_two_things_are_held_out_and_two_left_and_hardly_more_pairs_than_the_share(
    sizes: tuple[int, ...], seed: int
) -> None:
    """Of one thing alone every answer is right; of a large one, half of what there is to learn would be held out."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    training, validation = hold_out(np.arange(len(group)), group, seed)
    assert len(training) + len(validation) == len(group)
    assert not set(group[training]) & set(group[validation])
    assert min(len(set(group[training])), len(set(group[validation]))) >= 2
    assert len(validation) <= max(0.05 * len(group), sum(sorted(sizes)[:2]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("sizes", "most"), [((1000, *(1,) * 40), 20), ((97, 1, 1, 1), 2), ((100,) * 10 + (1,) * 30, 20)]
)
def test_small_groups_do_not_leave_large_ones_alone(sizes: tuple[int, ...], most: int, seed: int) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    training, validation = hold_out(np.arange(len(group)), group, seed)
    held_out = len(set(group[validation]))
    assert 2 <= held_out <= most
    assert len(set(group[training])) == len(sizes) - held_out


def test_of_equal_groups_those_are_held_out_that_are_drawn() -> None:
    group = np.repeat(np.arange(8), 20)
    drawn = {tuple(set(group[hold_out(np.arange(160), group, seed)[1]].tolist())) for seed in range(20)}
    assert len(drawn) > 5


def test_what_cannot_be_split_is_told_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="all 60 pairs have the same caption or image: there is nothing to tell apart"):
        hold_out(np.arange(60), np.zeros(60, dtype=np.int64))
    for sizes in ((1, 1, 1), (50, 1), (30, 30), (50, 2, 2)):
        group = np.repeat(np.arange(len(sizes)), sizes)
        with pytest.raises(ValueError, match="too few to hold some out"):
            hold_out(np.arange(len(group)), group)


def test_validating_on_all_leaves_nothing_to_train_on() -> None:
    keys = [f"a/{number}" for number in range(10)]
    with pytest.raises(ValueError, match="0 of 9 items are left to train on, for those that match a/"):
        choose_keys(keys, ["a/[0-8]"], ["a/*"])
    training, validation = choose_keys(keys, ["*"], ["a/[89]"])
    assert validation is not None
    assert (training.tolist(), validation.tolist()) == (list(range(8)), [8, 9])
