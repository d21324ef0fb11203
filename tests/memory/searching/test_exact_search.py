"""Search against its slow twin: a float64 scan of all fp16 rows."""

import itertools
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from seeded_rows import unit_rows

import memory
from memory import Memory
from memory.indexing.kernels import faiss
from memory.indexing.searcher import Part
from memory.searching.exact_search import ShardSearch


def twin(rows: np.ndarray, queries: np.ndarray, k: int, deleted: tuple[int, ...] = ()) -> tuple:
    """Top-k by full scan and full sort: similarity descending, then id ascending."""
    wide = rows.astype(np.float64)
    similarities = np.array([[np.dot(row, query) for row in wide] for query in queries.astype(np.float64)])
    similarities = similarities.astype(np.float32)
    ids = np.full((len(queries), k), -1)
    best = np.zeros((len(queries), k), np.float32)
    for b, line in enumerate(similarities):
        alive = [i for i in range(len(rows)) if i not in deleted]
        order = sorted(alive, key=lambda i: (-line[i], i))[:k]
        ids[b, : len(order)], best[b, : len(order)] = order, line[order]
    return ids, best


def assert_equals_twin(opened: Memory, sides: dict, queries, k, modality, deleted=()) -> None:
    found = opened.search(queries, k, modality=modality)
    ids, similarities = twin(sides[modality], queries, k, deleted)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.similarities, similarities, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(found.mask, ids >= 0)
    other = sides[memory.OTHER_MODALITY[modality]].astype(np.float32)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    expected = np.where(found.mask[..., None], other[ids], 0)
    np.testing.assert_array_equal(found.values, expected)
    assert found.ids.dtype == np.int64
    assert found.similarities.dtype == found.values.dtype == np.float32


def cut(rows: memory.Rows, bounds: list[int], factory) -> list[memory.Rows]:
    return [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(bounds)]


@pytest.fixture(scope="module")
def bounds() -> dict[int, list[int]]:
    return {1: [0, 301], 7: [0, 1, 3, 50, 120, 121, 260, 301]}


@pytest.mark.parametrize("shards", [1, 7])
def test_equals_the_twin(root, factory, bounds, shards):
    rows = factory.make_rows(301, seed=5)
    factory.commit(root, cut(rows, bounds[shards], factory))
    queries = factory.unit_rows(5, factory.D, 99)
    with Memory.open(root) as opened:
        for modality in memory.MODALITIES:
            for k in (1, 10, 301, 350):
                assert_equals_twin(opened, {"image": rows.image, "text": rows.text}, queries, k, modality)


@pytest.mark.parametrize("embed_dim", [1, 7, 100, 128])
def test_one_shard_equals_seven_with_ties(tmp_path, factory, bounds, embed_dim):
    """Most rows are copies of five: FAISS scores equal rows unequally when D is no multiple of 16."""
    rows = factory.make_rows(301, embed_dim, seed=6)
    copies = np.random.default_rng(0).integers(0, 5, 301)
    rows.image[:250] = rows.image[copies[:250]]
    queries = factory.unit_rows(4, embed_dim, 7)
    queries[0] = rows.image[0] / np.linalg.norm(rows.image[0].astype(np.float32))
    found = []
    for shards, cuts in bounds.items():
        factory.commit(tmp_path / str(shards), cut(rows, cuts, factory))
        with Memory.open(tmp_path / str(shards)) as opened:
            for k in (1, 8, 60):
                assert_equals_twin(opened, {"image": rows.image, "text": rows.text}, queries, k, "image")
            found.append(opened.search(queries, 20, modality="image"))
    for name in ("ids", "similarities", "values", "keys", "mask"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


@pytest.mark.parametrize(
    "deleted", [[0], [300], [2, 3, 5, 7], list(range(0, 301, 2)), list(range(299)), list(range(301))]
)
def test_deleted_ids_never_come_back(root, factory, bounds, deleted):
    rows = factory.make_rows(301, seed=5)
    factory.commit(root, cut(rows, bounds[7], factory), deletes=deleted)
    queries = factory.unit_rows(3, factory.D, 4)
    with Memory.open(root) as opened:
        assert (opened.num_items, opened.num_rows) == (301 - len(deleted), 301)
        np.testing.assert_array_equal(opened.deleted_ids(), deleted)
        for k in (1, 10, 302):
            sides = {"image": rows.image, "text": rows.text}
            assert_equals_twin(opened, sides, queries, k, "image", tuple(deleted))


def test_deleted_nearest_rows_force_deeper_search(root, factory):
    """All of the first fetch is deleted: the answer lies far behind it."""
    rows = factory.make_rows(400, seed=8)
    query = factory.unit_rows(1, factory.D, 3)
    nearest = twin(rows.image, query, 200)[0][0].tolist()
    factory.commit(root, [rows], deletes=sorted(nearest))
    with Memory.open(root) as opened:
        sides = {"image": rows.image, "text": rows.text}
        assert_equals_twin(opened, sides, query, 5, "image", tuple(nearest))


def test_a_row_of_a_batch_equals_a_single_request(built, factory):
    queries = factory.unit_rows(17, factory.D, 1)
    with Memory.open(built) as opened:
        batch = opened.search(queries, 9, modality="text")
        for b in range(17):
            single = opened.search(queries[b : b + 1], 9, modality="text")
            np.testing.assert_array_equal(single.ids[0], batch.ids[b])
            np.testing.assert_array_equal(single.similarities[0], batch.similarities[b])


def test_values_are_the_other_side_of_the_same_row(built, factory):
    with Memory.open(built) as opened:
        found = opened.search(factory.unit_rows(6, factory.D, 1), 5, modality="image")
        np.testing.assert_array_equal(found.values, opened.rows("text", found.ids.ravel()).reshape(6, 5, -1))
        np.testing.assert_array_equal(found.keys, opened.rows("image", found.ids.ravel()).reshape(6, 5, -1))
        np.testing.assert_allclose(np.linalg.norm(found.values, axis=2), 1.0, atol=1e-6)
        assert [item.key for item in opened.items(found.ids[0])] == [opened.keys()[i] for i in found.ids[0]]


@pytest.mark.parametrize(("batch", "k"), [(0, 5), (3, 0), (0, 0)])
def test_empty_searches_have_the_right_shape(built, factory, batch, k):
    with Memory.open(built) as opened:
        found = opened.search(factory.unit_rows(batch, factory.D, 0), k, modality="image")
        assert found.ids.shape == found.similarities.shape == found.mask.shape == (batch, k)
        assert found.values.shape == (batch, k, factory.D)


def test_missing_neighbours_are_clean(built, factory):
    with Memory.open(built) as opened:
        found = opened.search(factory.unit_rows(2, factory.D, 0), 200, modality="image")
        missing = ~found.mask
        assert missing.sum() == 2 * (200 - 68)
        assert (found.ids[missing] == -1).all()
        assert (found.ids[found.mask] >= 0).all()
        assert (found.similarities[missing] == 0.0).all()
        assert (found.values[missing] == 0.0).all()
        assert (found.keys[missing] == 0.0).all()
        assert np.isfinite(found.similarities).all()


@pytest.mark.parametrize(
    ("queries", "k", "modality", "code"),
    [
        (np.ones((2, 5), np.float32), 3, "image", "query_shape"),
        (np.ones(24, np.float32), 3, "image", "query_shape"),
        (np.eye(24, dtype=np.float64), 3, "image", "query_shape"),
        (np.eye(24, dtype=np.float32), -1, "image", "query_shape"),
        (np.eye(24, dtype=np.float32), True, "image", "query_shape"),
        (np.eye(24, dtype=np.float32), 1.5, "image", "query_shape"),
        (np.eye(24, dtype=np.float32), 3, "audio", "query_shape"),
        (np.full((1, 24), np.nan, np.float32), 3, "image", "query_value"),
        (np.full((1, 24), np.inf, np.float32), 3, "image", "query_value"),
        (np.zeros((1, 24), np.float32), 3, "image", "query_value"),
        (2 * np.eye(24, dtype=np.float32), 3, "image", "query_value"),
    ],
)
def test_C11_queries_that_cannot_be_answered_are_refused(built, queries, k, modality, code):
    with Memory.open(built) as opened, pytest.raises(memory.QueryError) as refusal:
        opened.search(queries, k, modality=modality)
    assert refusal.value.code == code


def test_searching_from_many_threads_gives_the_same_answers(built, factory):
    queries = factory.unit_rows(8, factory.D, 1)
    with Memory.open(built) as opened:
        expected = opened.search(queries, 7, modality="image")
        wrong: list[int] = []

        def work() -> None:
            for _ in range(30):
                found = opened.search(queries, 7, modality="image")
                if not np.array_equal(found.ids, expected.ids):
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_closed_memory_says_so(built, factory):
    opened = Memory.open(built)
    opened.close()
    with pytest.raises(memory.MemoryClosed):
        opened.search(factory.unit_rows(1, factory.D, 0), 1, modality="image")


def test_shards_are_mapped_not_read(root, factory):
    """IO_FLAG_MMAP would pass every other test and hold all codes in anonymous memory."""
    rows = factory.make_rows(4000, 128, seed=1, thumbnails=False)
    manifest = factory.commit(root, [rows])
    codes = 4000 * 128 * 2
    with Memory.open(root) as opened:
        opened.search(factory.unit_rows(1, 128, 0), 3, modality="image")
        maps = _maps()
        for side in memory.MODALITIES:
            path = f"{manifest.indexes[side].id}/shard-00000.faiss"
            assert sum(size for name, size in maps if name.endswith(path)) >= codes


def _maps() -> list[tuple[str, int]]:
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [(fields[5], fields[0].split("-")) for fields in lines if len(fields) == 6]
    return [(name, int(last, 16) - int(first, 16)) for name, (first, last) in spans]


def shard_of(rows: np.ndarray, deleted: tuple[int, ...] = ()) -> ShardSearch:
    index = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(rows.astype(np.float32))
    part = Part(index, rows, 0, np.array(deleted, dtype=np.int64))
    return ShardSearch(part.alive(), rows, base_row=0, deleted=part.deleted)


def test_rows_that_were_removed_take_no_place_among_the_candidates() -> None:
    """They were fetched four times as many at a time and ranked, until enough of the others were among them."""
    rows, deleted = unit_rows(3000, 16, 1).astype(np.float16), tuple(range(2900))
    shard, queries = shard_of(rows, deleted), rows[:6].astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    asked: list[int] = []
    index = shard._index
    shard._index = SimpleNamespace(search=lambda queries, k: (asked.append(k), index.search(queries, k))[1])
    expected, best = twin(rows, queries, 5, deleted)
    ids, similarities = shard.search(queries, 5)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(similarities, best)
    assert asked == [21]
    every = twin(rows, queries, 200, deleted)
    np.testing.assert_array_equal(shard.search(queries, 200)[0], every[0])
    assert (every[0][:, 100:] == -1).all() and asked == [21, 100]


def classes(rows: int, distinct: int, embed_dim: int) -> np.ndarray:
    """Rows as the captions of a memory are that names classes: few different ones."""
    return unit_rows(distinct, embed_dim, 1)[np.arange(rows) * 7919 % distinct].astype(np.float16)


@pytest.mark.parametrize(("distinct", "k"), [(2, 5), (40, 7), (40, 100), (3000, 5)])
def test_thousands_of_equal_rows_are_ranked_by_id(distinct: int, k: int) -> None:
    rows, queries, deleted = classes(3000, distinct, 16), unit_rows(6, 16, 2), (0, 1, 2, 40, 80, 2999)
    ids, similarities = shard_of(rows, deleted).search(queries, k)
    expected, best = twin(rows, queries, k, deleted)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(similarities, best, rtol=0, atol=1e-7)


def test_captions_that_name_classes_are_searched_nearly_as_fast_as_others() -> None:
    queries = unit_rows(64, 128, 2)

    def seconds(distinct: int) -> float:
        search, took = shard_of(classes(20_000, distinct, 128)), []
        for _ in range(4):
            began = time.process_time()
            search.search(queries, 10)
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(200) < 8 * seconds(20_000)


def test_a_shard_of_equal_rows_needs_no_room_for_all_of_them_a_query() -> None:
    search, queries = shard_of(classes(100_000, 1, 8)), unit_rows(64, 8, 2)
    tracemalloc.start()
    try:
        ids, _ = search.search(queries, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(ids, np.tile(np.arange(5), (64, 1)))
    assert peak < 16 << 20  # 64 lists of all rows are 49 MiB
