"""The memory in RAM against the obvious full sort, and against the memory on disk."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from seeded_rows import unit_rows

from evaluation import curves
from evaluation.array_memory import ArrayMemory, SearchesNeighbours
from memory import MODALITIES, Memory, Modality, Neighbours, QueryShapeError, QueryValueError


def full_sort(memory: ArrayMemory, queries: np.ndarray, k: int, modality: Modality) -> Neighbours:
    """The slow twin: all similarities in float64, one stable sort a query."""
    keys, other = memory.rows(modality), memory.rows("text" if modality == "image" else "image")
    b, d = queries.shape
    ids, similarities = np.full((b, k), -1), np.zeros((b, k), dtype=np.float32)
    values, mask = np.zeros((b, k, d), dtype=np.float32), np.zeros((b, k), dtype=bool)
    searched = np.zeros_like(values)
    for row, query in enumerate(queries.astype(np.float64)):
        exact = (keys.astype(np.float64) @ query).astype(np.float32)
        for column, position in enumerate(np.lexsort((memory.ids, -exact))[:k]):
            ids[row, column], similarities[row, column] = memory.ids[position], exact[position]
            values[row, column], searched[row, column] = other[position], keys[position]
            mask[row, column] = True
    return Neighbours(ids, similarities, values, searched, mask)


def assert_equal(found: Neighbours, expected: Neighbours) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_array_equal(found.mask, expected.mask)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("k", [0, 1, 5, 40, 61])
def test_it_finds_what_the_full_sort_finds(modality: Modality, k: int) -> None:
    memory = ArrayMemory(unit_rows(57, 24, 1), unit_rows(57, 24, 2))
    queries = unit_rows(13, 24, 3)
    assert_equal(memory.search(queries, k, modality=modality), full_sort(memory, queries, k, modality))


def test_ties_are_ordered_by_id_however_many() -> None:
    image = np.repeat(unit_rows(3, 16, 4), 60, axis=0)
    memory = ArrayMemory(image, unit_rows(180, 16, 5))
    found = memory.search(image[[70, 0]], 8, modality="image")
    np.testing.assert_array_equal(found.ids, [np.arange(60, 68), np.arange(8)])


def test_a_subset_keeps_its_ids_and_without_takes_them_out() -> None:
    whole = ArrayMemory(unit_rows(50, 16, 6), unit_rows(50, 16, 7), np.arange(50) * 3)
    queries = unit_rows(7, 16, 8)
    part = whole.subset([41, 2, 2, 30])
    np.testing.assert_array_equal(part.ids, [6, 90, 123])
    assert_equal(part.search(queries, 5, modality="text"), full_sort(part, queries, 5, "text"))
    best = whole.search(queries, 1, modality="image").ids[:, 0]
    rest = whole.without([*best, 1])
    assert not np.isin(rest.search(queries, 4, modality="image").ids, best).any()
    assert rest.num_items == 50 - len(np.unique(best))


def test_an_empty_memory_finds_nothing() -> None:
    empty = ArrayMemory(unit_rows(4, 8, 1), unit_rows(4, 8, 2)).subset(np.zeros(4, dtype=bool))
    found = empty.search(unit_rows(2, 8, 3), 3, modality="image")
    assert not found.mask.any()
    assert (found.ids == -1).all()
    assert not found.values.any()


def test_it_finds_what_the_memory_on_disk_finds(any_memory: Memory) -> None:
    memories: tuple[SearchesNeighbours, ...] = (any_memory, ArrayMemory.from_memory(any_memory))
    queries = unit_rows(9, any_memory.embed_dim, 9)
    for modality in MODALITIES:
        on_disk, in_ram = (memory.search(queries, 6, modality=modality) for memory in memories)
        # fp16 rows have norms within 1e-3 of one: equal up to that, and to the order that it decides
        np.testing.assert_allclose(on_disk.similarities, in_ram.similarities, atol=2e-3)
        assert (on_disk.ids == in_ram.ids).mean() > 0.9
    assert not np.isin(in_ram.ids, any_memory.deleted_ids()).any()
    assert memories[0].num_items == memories[1].num_items


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ((unit_rows(3, 8, 1), unit_rows(4, 8, 1)), "both"),
        ((unit_rows(3, 8, 1)[0], unit_rows(3, 8, 1)[0]), "both"),
        ((2 * unit_rows(3, 8, 1), unit_rows(3, 8, 1)), "unit norm"),
        ((np.full((3, 8), np.nan), unit_rows(3, 8, 1)), "finite"),
        ((unit_rows(3, 8, 1), unit_rows(3, 8, 1), [0, 2, 1]), "ascending"),
        ((unit_rows(3, 8, 1), unit_rows(3, 8, 1), [0, 1]), "one for each"),
    ],
)
def test_rows_that_are_none_are_refused(arrays: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ArrayMemory(*arrays)


def test_queries_that_are_none_are_refused() -> None:
    memory = ArrayMemory(unit_rows(3, 8, 1), unit_rows(3, 8, 2))
    good = unit_rows(2, 8, 3)
    for queries, k, modality in (
        (good[:, :4], 1, "image"),
        (good.astype(np.float64), 1, "image"),
        (good, -1, "image"),
        (good, 1, "sound"),
    ):
        with pytest.raises(QueryShapeError):
            memory.search(queries, k, modality=modality)
    with pytest.raises(QueryValueError):
        memory.search(good * np.float32(np.nan), 1, modality="image")


def test_three_thousand_queries_in_seven_thousand_rows_take_a_moment() -> None:
    memory = ArrayMemory(unit_rows(7000, 512, 1), unit_rows(7000, 512, 2))
    queries = unit_rows(3000, 512, 3)
    times = []
    for _ in range(2):
        start = time.process_time()
        memory.search(queries, 10, modality="image")
        times.append(time.process_time() - start)
    assert min(times) < 5  # processor time of all threads, about 1 s: a busy machine stretches the clock's without end


def test_a_memory_is_read_in_the_room_that_decides_whether_its_size_curve_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {modality: unit_rows(8000, 128, 1) for modality in MODALITIES}

    class Read:
        """As much of a memory as is read."""

        num_rows = num_items = 8000
        embed_dim = 128

        def deleted_ids(self) -> np.ndarray:
            return np.empty(0, dtype=np.int64)

        def rows(self, modality: Modality, ids: np.ndarray) -> np.ndarray:
            return made[modality][ids]

        def captions(self, ids: np.ndarray) -> None:
            return None

    memory: Any = Read()
    tracemalloc.start()
    try:
        ArrayMemory.from_memory(memory)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(curves, "MAX_ARRAY_BYTES", peak * 0.95)
    assert not curves.fits_in_ram(memory)
    monkeypatch.setattr(curves, "MAX_ARRAY_BYTES", peak * 1.05)
    assert curves.fits_in_ram(memory)
