"""What items take, and what follows from it for the size of batches and for who is admitted."""

import math

import pytest

from service.pipeline.pace import Pace


def taught(share: float = 1.0, **bounds: float) -> Pace:
    """It has seen images of 20 ms of the whole machine, and nothing of texts."""
    pace = Pace(max_batch_size=64, **bounds)
    for _ in range(2):
        pace.learn("image", 4, 0.08 / share, share)
    return pace


def test_seconds_are_those_of_the_whole_machine() -> None:
    for share in (1.0, 0.5):
        pace = taught(share, max_batch_s=0.2)
        assert pace.most("image", 1.0) == 10
        assert pace.most("image", 0.5) == 5
        assert pace.most("image", 0.5, 4) == 20


def test_without_a_bound_of_time_a_batch_is_as_large_as_memory_allows() -> None:
    pace = Pace(max_batch_size=64)
    assert pace.most("image", 0.5) == 64
    pace.lower("image", 8)
    assert (pace.most("image", 1.0), pace.most("text", 1.0), pace.ceiling("image")) == (8, 64, 8)
    pace.lower("image", 16)  # of a batch that was under way before
    assert pace.ceiling("image") == 8
    pace.learn("image", 8, 0.1, 1.0)
    assert pace.ceiling("image") == 9


def test_a_batch_is_as_large_as_comes_nearest_to_its_time() -> None:
    for bound, most in {0.001: 1, 0.029: 1, 0.031: 2, 0.049: 2, 0.051: 3}.items():
        assert taught(max_batch_s=bound).most("image", 1.0) == most


def test_with_a_bound_the_first_batch_is_one_item() -> None:
    assert Pace(max_batch_size=64, max_batch_s=0.1).most("image", 1.0) == 1


def test_who_would_wait_too_long_is_late_and_of_unknown_lanes_nobody_is() -> None:
    pace = taught(max_wait_s=0.2)
    assert pace.in_time("image", {"image": 10, "text": 0})
    assert not pace.in_time("image", {"image": 11, "text": 0})
    assert pace.in_time("image", {"image": 9, "text": 0}, 0.9)
    assert not pace.in_time("image", {"image": 10, "text": 0}, 0.9), "nine tenths of the time"
    assert pace.in_time("text", {"image": 0, "text": 10_000})
    assert pace.seconds({"image": 10, "text": 10_000}) == pytest.approx(0.2), "of unknown lanes nothing is counted"
    pace.learn("text", 1, 0.005, 1.0)
    pace.learn("text", 1, 0.005, 1.0)
    assert not pace.in_time("image", {"image": 9, "text": 40}), "the lanes take turns"
    assert taught(max_wait_s=math.inf).in_time("image", {"image": 10_000, "text": 0})


def test_neither_one_accident_nor_one_stroke_of_luck_moves_it_and_what_lasts_does() -> None:
    pace = taught(max_batch_s=0.2)
    for _ in range(3):
        pace.learn("image", 4, 0.08, 1.0)
    for seconds in (4.0, 0.0004):
        pace.learn("image", 4, seconds, 1.0)
        assert pace.most("image", 1.0) == 10
    for _ in range(3):
        pace.learn("image", 4, 0.16, 1.0)
    assert pace.most("image", 1.0) == 5
