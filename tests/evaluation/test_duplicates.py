"""Copies of test images in the memory: every one is found, and masking them equals a memory without them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.array_memory import ArrayMemory
from evaluation.duplicates import LeavingOut, near_duplicates
from memory import MODALITIES, Modality, NearDuplicates, Neighbours


def test_every_copy_is_found_however_many(factory: Any) -> None:
    rows = factory.unit_rows(400, 32, 1)
    rows[:90] = factory.noisy(np.repeat(rows[:1], 90, axis=0), 0.02, 2)  # more copies than one look finds
    memory = ArrayMemory(rows, factory.unit_rows(400, 32, 3))
    images = np.concatenate([rows[:1], rows[200:202], factory.unit_rows(5, 32, 4)])
    found = near_duplicates(images, memory, 0.985)
    expected = np.flatnonzero((rows @ images.T > 0.985).any(axis=1))
    np.testing.assert_array_equal(found.item_ids, expected)
    assert len(expected) == 92
    assert found.images == 3


@pytest.mark.parametrize("num_copies", [1, 40])
def test_exact_copies_are_found_at_a_cosine_of_1(num_copies: int, factory: Any, tmp_path: Path) -> None:
    """Rows of a memory are fp16, so a copy comes out a little above or below 1."""
    images = factory.unit_rows(6, 64, 1)
    rows = np.concatenate([np.repeat(images, num_copies, axis=0), factory.unit_rows(30, 64, 2)])
    texts = factory.unit_rows(len(rows), 64, 3)
    memory = factory.write_memory(tmp_path / "memory", rows, texts, [str(row) for row in range(len(rows))], [])
    found = near_duplicates(images, memory, 1.0)
    np.testing.assert_array_equal(found.item_ids, np.arange(6 * num_copies))
    np.testing.assert_array_equal(found.item_ids, NearDuplicates(images, 1.0).find(memory)[0])
    assert found.images == 6


def test_no_copy_is_none(factory: Any) -> None:
    memory = ArrayMemory(factory.unit_rows(20, 32, 1), factory.unit_rows(20, 32, 2))
    found = near_duplicates(factory.unit_rows(4, 32, 3), memory, 0.985)
    assert found.images == 0
    assert found.item_ids.shape == (0,)


@pytest.mark.parametrize("k", [0, 1, 4, 60])
def test_leaving_out_equals_a_memory_without_the_items(k: int, factory: Any) -> None:
    whole = ArrayMemory(factory.unit_rows(50, 16, 1), factory.unit_rows(50, 16, 2))
    queries = factory.unit_rows(6, 16, 3)
    for modality in MODALITIES:
        ids = np.unique(whole.search(queries, 3, modality=modality).ids)
        masked, smaller = LeavingOut(whole, ids), whole.without(ids)
        assert masked.num_items == smaller.num_items
        for name in ("ids", "similarities", "values", "mask"):
            np.testing.assert_array_equal(
                getattr(masked.search(queries, k, modality=modality), name),
                getattr(smaller.search(queries, k, modality=modality), name),
            )


class _Watched(ArrayMemory):
    """Remembers the largest answer, in neighbours."""

    largest = 0

    def search(self, queries: np.ndarray, k: int, *, modality: Modality) -> Neighbours:
        self.largest = max(self.largest, len(queries) * k)
        return super().search(queries, k, modality=modality)


def test_leaving_most_items_out_needs_no_more_at_a_time(factory: Any) -> None:
    """Whoever measures with the memory's own photos, and one or two others in it, hides nearly all of it."""
    whole = _Watched(factory.unit_rows(2000, 8, 1), factory.unit_rows(2000, 8, 2))
    queries, ids = factory.unit_rows(400, 8, 3), np.arange(3, 2000)
    masked, smaller = LeavingOut(whole, ids), whole.without(ids)
    found, expected = (one.search(queries, 10, modality="image") for one in (masked, smaller))
    for name in ("ids", "similarities", "values", "keys", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert whole.largest <= 1 << 15  # it was all queries times all items, 1 << 20 here
