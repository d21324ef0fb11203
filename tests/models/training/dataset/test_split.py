"""What is trained on and what is validated on: whole captions, some of each even where there are few."""

import numpy as np
import pytest

from models.training.dataset.split import hold_out, split_keys


def test_a_random_share_of_whole_groups_is_held_out() -> None:
    ids, group = np.arange(3, 1003), np.arange(1003) // 4
    training, validation = hold_out(ids, group, seed=1)
    assert sorted([*training, *validation]) == ids.tolist()
    assert not set(group[training]) & set(group[validation])
    assert 20 < len(validation) < 90
    assert not np.array_equal(validation, hold_out(ids, group, seed=2)[1])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (50, 2), (50, 1, 1), (30, 30), (1,) * 20])
def test_of_few_pairs_two_are_held_out_and_two_are_left(sizes: tuple[int, ...], seed: int) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    training, validation = hold_out(np.arange(len(group)), group, seed)
    assert min(len(training), len(validation)) >= 2
    assert not set(group[training]) & set(group[validation])


def test_what_cannot_be_split_is_told_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="all 60 pairs have the same caption or image: there is nothing to tell apart"):
        hold_out(np.arange(60), np.zeros(60, dtype=np.int64))
    for sizes in ((1, 1, 1), (50, 1)):
        group = np.repeat(np.arange(len(sizes)), sizes)
        with pytest.raises(ValueError, match="too few to hold some out to validate on"):
            hold_out(np.arange(len(group)), group)


def test_validating_on_all_leaves_nothing_to_train_on() -> None:
    keys = [f"a/{number}" for number in range(10)]
    with pytest.raises(ValueError, match="0 of 9 items are left to train on, for those that match a/"):
        split_keys(keys, keys, ["a/[0-8]"], ["a/*"])
    training, validation = split_keys(keys, keys, ["*"], ["a/[89]"])
    assert (training.tolist(), validation.tolist()) == (list(range(8)), [8, 9])
