"""Captions that name a label are its own, near it or far from it, and count alike."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from seeded_rows import unit_rows

from evaluation.array_memory import ArrayMemory
from models import label_captions
from models.label_captions import LabelCaptions, LabelNeighbours

CAPTIONS = [
    "a photo of a fennow",  # 0
    "brannock's fennow on a branch",  # 1
    "Brannock's Fennow, seen from below",  # 2
    "a wren",  # 3
    "a rock wren",  # 4
    "nothing of interest",  # 5
]
DIM = 16
IMAGES = unit_rows(len(CAPTIONS), DIM, 2)
# Each text is as similar to `QUERY` as its place says: 0.9 for the first of an order, less for those after it.
QUERY = np.eye(DIM, dtype=np.float32)[:1]


def memory_in_order(order: Sequence[int], reads: list[list[int]] | None = None) -> ArrayMemory:
    """The captions, most similar to the query first in that order; what is read is noted."""
    texts = np.zeros((len(CAPTIONS), DIM), dtype=np.float32)
    for place, one in enumerate(order):
        cosine = 0.9 - 0.1 * place
        texts[one, 0], texts[one, 1 + one] = cosine, np.sqrt(1 - cosine**2)

    def captions(ids: NDArray[np.int64]) -> list[str]:
        if reads is not None:
            reads.append(ids.tolist())
        return [CAPTIONS[one] for one in ids.tolist()]

    return ArrayMemory(IMAGES, texts, captions=captions)


def look_up(memory: ArrayMemory, labels: Sequence[str], k: int) -> LabelNeighbours:
    """What the labels find, each with the query for its text."""
    return LabelCaptions(labels, memory).look_up(np.repeat(QUERY, len(labels), axis=0), k)


def test_captions_that_name_a_label_are_its_only_neighbours_in_their_order() -> None:
    memory = memory_in_order([0, 2, 5, 1, 3, 4])
    chosen, named, near = look_up(memory, ["brannock's fennow", "fennow"], 3)
    assert named.tolist() == near.tolist() == [True, True]
    assert chosen.ids.tolist() == [[2, 1, -1], [0, -1, -1]]
    assert chosen.mask.tolist() == [[True, True, False], [True, False, False]]
    np.testing.assert_allclose(chosen.similarities, [[0.8, 0.6, 0], [0.9, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(chosen.values[0, :2], memory.rows("image")[[2, 1]])
    assert not chosen.values[0, 2].any() and not chosen.values[1, 1:].any()
    np.testing.assert_array_equal(chosen.keys[:, 0], memory.rows("text")[[2, 0]])


def test_a_label_that_no_caption_names_keeps_the_nearest() -> None:
    memory = memory_in_order([5, 3, 4, 1, 0, 2])
    chosen, named, near = look_up(memory, ["kingfisher", "!!!"], 3)
    assert not named.any() and not near.any()
    assert chosen.ids.tolist() == [[5, 3, 4]] * 2
    np.testing.assert_array_equal(chosen.values, memory.search(np.repeat(QUERY, 2, axis=0), 3, modality="text").values)


def test_the_longest_label_of_the_set_counts_wherever_the_part_begins() -> None:
    memory = memory_in_order([4, 3, 0, 5, 1, 2])
    labels = LabelCaptions(["fennow", "wren", "rock wren"], memory)
    chosen, named, near = labels.look_up(np.repeat(QUERY, 3, axis=0), 2, part=1)
    assert named.all() and near.all() and chosen.ids.tolist() == [[0, 1], [3, -1], [4, -1]]


def test_captions_far_from_a_label_that_name_it_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_captions, "_MOST", 1)  # k, and no more, are looked through
    memory = memory_in_order([5, 0, 3, 1, 2, 4])
    chosen, named, near = look_up(memory, ["brannock's fennow", "wren", "fennow", "kingfisher"], 2)
    assert named.tolist() == [True, True, True, False]
    assert near.tolist() == [False, False, True, False]
    assert chosen.ids.tolist() == [[1, 2], [3, 4], [0, -1], [5, 0]]
    np.testing.assert_allclose(chosen.similarities, [[0.6, 0.5], [0.7, 0.4], [0.8, 0], [0.9, 0.8]], atol=1e-6)
    np.testing.assert_array_equal(chosen.values[0], memory.rows("image")[[1, 2]])
    np.testing.assert_array_equal(chosen.values[2], [memory.rows("image")[0], np.zeros(DIM)])


def test_near_captions_that_name_a_label_are_joined_by_those_that_are_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_captions, "_MOST", 1)
    chosen, _, near = look_up(memory_in_order([2, 5, 0, 3, 4, 1]), ["brannock's fennow"], 2)
    assert chosen.ids.tolist() == [[2, 1]] and near.all()


def test_what_a_memory_no_longer_holds_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_captions, "_MOST", 1)
    memory = memory_in_order([5, 0, 3, 1, 2, 4]).without([1, 3, 4])
    chosen, named, near = look_up(memory, ["brannock's fennow", "wren"], 2)
    assert named.tolist() == [True, False] and not near.any()
    assert chosen.ids.tolist() == [[2, -1], [5, 0]]


@pytest.mark.parametrize("labels", [[], ["", "..."], [" ".join("abcdefghijklmnopq")]])
def test_without_names_no_caption_is_read(labels: list[str]) -> None:
    reads: list[list[int]] = []
    memory = memory_in_order([1, 2, 3, 4, 5, 0], reads)
    chosen, named, near = LabelCaptions(labels, memory).look_up(np.repeat(QUERY, 2, axis=0), 2)
    assert not named.any() and not near.any() and chosen.ids.tolist() == [[1, 2]] * 2 and not reads


def test_each_caption_is_read_once_for_all_labels() -> None:
    reads: list[list[int]] = []
    look_up(memory_in_order([0, 1, 3, 4, 2, 5], reads), ["wren", "fennow", "rock wren"], 1)
    assert reads == [[0, 1, 2, 3, 4]]


def test_captions_that_name_a_label_count_alike_and_others_as_they_are() -> None:
    found = look_up(memory_in_order([1, 2, 5, 0, 3, 4]), ["brannock's fennow", "kingfisher"], 3)
    np.testing.assert_allclose(found.alike.similarities, [[0.9, 0.9, 0], [0.9, 0.8, 0.7]], atol=1e-6)
    np.testing.assert_allclose(found.neighbours.similarities, [[0.9, 0.8, 0], [0.9, 0.8, 0.7]], atol=1e-6)
    np.testing.assert_array_equal(found.alike.values, found.neighbours.values)


def test_many_labels_cost_few_reads_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a memory that is kept elsewhere each is a journey."""
    monkeypatch.setattr(label_captions, "_MOST", 1)
    memory, asked = memory_in_order([5, 0, 3, 1, 2, 4]), list[tuple[str, int]]()
    rows = memory.rows
    monkeypatch.setattr(memory, "rows", lambda side, ids: (asked.append((side, len(ids))), rows(side, ids))[1])
    found = look_up(memory, ["brannock's fennow", "rock wren", "wren"], 1)
    assert found.neighbours.ids.tolist() == [[1], [4], [3]]
    assert asked == [("text", 4), ("image", 3)]
    asked.clear()
    monkeypatch.setattr(label_captions, "_ROWS_AT_A_TIME", 1)
    again = look_up(memory, ["brannock's fennow", "rock wren", "wren"], 1)
    assert [side for side, _ in asked] == ["text", "image"] * 2
    np.testing.assert_array_equal(again.neighbours.values, found.neighbours.values)
    np.testing.assert_array_equal(again.neighbours.similarities, found.neighbours.similarities)
