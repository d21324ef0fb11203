"""What belongs together: by text, by image, and by others that have one of both."""

from typing import cast

import numpy as np
import pytest

from memory import Memory
from models.training.dataset.groups import number_alike, number_captions, number_joined
from models.training.dataset.split import hold_out


def by_walking(caption: np.ndarray, image: np.ndarray) -> list[int]:
    """The slow and plain way: from each row to all that it reaches."""
    found = [-1] * len(caption)
    for start in range(len(caption)):
        waiting = [start] if found[start] < 0 else []
        while waiting:
            row = waiting.pop()
            if found[row] < 0:
                found[row] = start
                waiting += np.flatnonzero((caption == caption[row]) | (image == image[row])).tolist()
    return found


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_joined_over_any_number_of_others(seed: int) -> None:
    dice = np.random.default_rng(seed)
    caption, image = dice.integers(0, 150, 120), dice.integers(0, 150, 120)
    found, expected = number_joined(caption, image), by_walking(caption, image)
    assert (found[:, None] == found).tolist() == (np.array(expected)[:, None] == expected).tolist()


def test_a_chain_through_many_rows_is_one_group_and_takes_no_time() -> None:
    links = np.arange(200_000)
    alone = np.arange(200_000, 420_000)
    caption, image = np.concatenate([links // 2, alone]), np.concatenate([(links + 1) // 2, alone])
    found = number_joined(caption, image)
    assert set(found[: len(links)]) == {0}
    assert np.array_equal(found[len(links) :], caption[len(links) :])


def test_a_caption_that_all_images_have_beside_others_joins_nothing() -> None:
    """With `a photo` beside each image's own words, all would be one group and nothing could be told apart."""
    image = np.arange(20).repeat(2)
    caption = np.where(np.arange(40) % 2, 0, np.arange(40) + 1)
    assert np.array_equal(number_joined(caption, image), caption)


def test_where_no_image_has_two_captions_the_captions_number(named_memory: Memory) -> None:
    assert np.array_equal(
        number_alike(named_memory, np.arange(named_memory.num_rows)), number_captions(named_memory.blocks("caption"))
    )
    assert not len(number_joined(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)))


def test_what_joins_is_judged_by_the_pairs_in_question() -> None:
    """Beside other pairs a caption of all of them is as common as without."""

    class Shop:
        """Two captions an image, one of them `product photo`; and others, of which each has its own."""

        caption = (
            *(one for n in range(200) for one in (f"mug {n}", "product photo")),
            *(f"art {n}" for n in range(500)),
        )
        content_sha256 = (*(f"{n // 2:064x}" for n in range(400)), *(f"{n:064x}" for n in range(1000, 1500)))

        def blocks(self, column: str) -> list[list[str]]:
            return [list(getattr(self, column))]

    shop = cast(Memory, Shop())
    chosen = np.arange(400)
    assert np.array_equal(number_alike(shop, chosen)[chosen], number_captions([Shop.caption])[chosen])
    training, validation = hold_out(chosen, number_alike(shop, chosen))
    assert len(training) + len(validation) == 400
