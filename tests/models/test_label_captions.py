"""Captions that name a label are its own: they are looked for among more neighbours than are used."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from memory import Neighbours
from models.label_captions import LabelCaptions

CAPTIONS = [
    "a photo of a fennow",  # 0
    "brannock's fennow on a branch",  # 1
    "Brannock's Fennow, seen from below",  # 2
    "a wren",  # 3
    "a rock wren",  # 4
    "nothing of interest",  # 5
]


def found(rows: Sequence[Sequence[int]]) -> Neighbours:
    """Neighbours of these ids, -1 for none; each has its id in its embeddings, and is less similar than the last."""
    ids = np.array(rows, dtype=np.int64)
    mask = ids >= 0
    similarities = np.where(mask, 0.9 - 0.1 * np.arange(ids.shape[1], dtype=np.float32), 0).astype(np.float32)
    values = np.where(mask, ids, 0)[..., None].astype(np.float32)
    return Neighbours(ids, similarities, values, values + 100, mask)


def captions_of(ids: NDArray[np.int64]) -> list[str]:
    return [CAPTIONS[one] for one in ids]


def test_captions_that_name_a_label_are_its_only_neighbours_in_their_order() -> None:
    labels = LabelCaptions(["brannock's fennow", "fennow"], captions_of)
    chosen, named = labels.of(found([[0, 2, 5, 1], [1, 0, 5, 3]]), 0, 2)
    assert named.tolist() == [True, True]
    assert chosen.ids.tolist() == [[2, 1], [0, -1]]
    assert chosen.mask.tolist() == [[True, True], [True, False]]
    np.testing.assert_allclose(chosen.similarities, [[0.8, 0.6], [0.8, 0.0]], atol=1e-6)
    assert chosen.values[..., 0].tolist() == [[2, 1], [0, 0]] and chosen.keys[..., 0].tolist() == [[102, 101], [100, 0]]


def test_a_label_that_no_caption_names_keeps_the_nearest() -> None:
    labels = LabelCaptions(["kingfisher", "!!!"], captions_of)
    nearest = found([[5, 3, 4, 1], [0, -1, -1, -1]])
    chosen, named = labels.of(nearest, 0, 3)
    assert not named.any()
    assert chosen.ids.tolist() == [[5, 3, 4], [0, -1, -1]]
    np.testing.assert_array_equal(chosen.values, nearest.values[:, :3])


def test_the_longest_label_of_the_set_counts_wherever_the_part_begins() -> None:
    labels = LabelCaptions(["fennow", "wren", "rock wren"], captions_of)
    chosen, named = labels.of(found([[4, 3, 0, 5], [3, 4, 0, 5]]), 1, 2)
    assert named.all() and chosen.ids.tolist() == [[3, -1], [4, -1]]


@pytest.mark.parametrize("labels", [[], ["", "..."]])
def test_without_names_no_caption_is_read(labels: list[str]) -> None:
    def unread(_: NDArray[np.int64]) -> list[str]:
        raise AssertionError("captions were read")

    chosen, named = LabelCaptions(labels, unread).of(found([[1, 2, 3], [4, 5, 0]]), 0, 2)
    assert not named.any() and chosen.ids.tolist() == [[1, 2], [4, 5]]


def test_each_caption_is_read_once_for_all_labels() -> None:
    asked: list[list[int]] = []

    def captions(ids: NDArray[np.int64]) -> list[str]:
        asked.append(ids.tolist())
        return captions_of(ids)

    LabelCaptions(["wren", "fennow"], captions).of(found([[3, 4, 0], [0, 3, 1]]), 0, 1)
    assert asked == [[0, 1, 3, 4]]
