"""Indices of lists, each family forced on a small memory: judged by a scan, asked in every way."""

import gc
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

import memory
from memory import IndexOptions, Memory
from memory.indexing import list_search

FAMILIES = {"IVF8,SQ8": "ivf_sq8", "IVF8,RaBitQ": "ivf_rabitq", "IVF8,RaBitQfs": "ivf_rabitq_fs"}
D = 32
CUTS = [0, 400, 401, 900, 1000]


def clustered(n: int, seed: int) -> np.ndarray:
    """Rows around 20 centres, (n, D) float16, unit norm."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, D))[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def rows(factory) -> memory.Rows:
    made = factory.make_rows(1000, D, seed=1, thumbnails=False)
    return memory.Rows(clustered(1000, 1), clustered(1000, 2), made.items)


@pytest.fixture(scope="module")
def built(factory, rows, tmp_path_factory):
    """A memory of four segments for each family, made once."""
    made: dict[tuple[str, tuple[int, ...]], Path] = {}

    def build(factory_words: str, deletes: tuple[int, ...] = ()) -> Path:
        if (factory_words, deletes) not in made:
            root = made[factory_words, deletes] = tmp_path_factory.mktemp("lists") / "memory"
            parts = [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(CUTS)]
            factory.commit(root, parts, deletes=deletes, options=IndexOptions(factory=factory_words))
        return made[factory_words, deletes]

    return build


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    wide = clustered(12, 5).astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def scan(side: np.ndarray, queries: np.ndarray, k: int, deleted: tuple[int, ...] = ()) -> tuple:
    """The slow twin: every similarity in float64, sorted in full."""
    similarities = (side.astype(np.float64) @ queries.T.astype(np.float64)).T.astype(np.float32)
    similarities[:, list(deleted)] = -np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(side)), similarities.shape), -similarities))[:, :k]
    return order, np.take_along_axis(similarities, order, axis=1)


@pytest.mark.parametrize("words", FAMILIES)
def test_all_lists_and_all_rows_equal_the_scan(built, rows, queries, words):
    """With nothing left out, re-ranking makes an index of lists exact: ids, order, similarities and values."""
    with Memory.open(built(words)) as opened:
        assert {index["kind"] for index in opened.indices()} == {FAMILIES[words]}
        for modality, side, other in (("image", rows.image, rows.text), ("text", rows.text, rows.image)):
            ids, similarities = scan(side, queries, 10)
            found = opened.search(queries, 10, modality=modality, nprobe=8, num_candidates=1000)
            np.testing.assert_array_equal(found.ids, ids)
            np.testing.assert_allclose(found.similarities, similarities, rtol=0, atol=1e-7)
            values = other.astype(np.float32)[ids]
            values /= np.linalg.norm(values, axis=2, keepdims=True)
            np.testing.assert_allclose(found.values, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("words", FAMILIES)
def test_similarities_are_exact_whatever_is_missed(built, rows, queries, words):
    """One list and few candidates miss neighbours; what is found is told and ordered as a scan would."""
    with Memory.open(built(words)) as opened:
        found = opened.search(queries, 5, modality="image", nprobe=1, num_candidates=5)
        for query, ids, similarities in zip(queries, found.ids, found.similarities, strict=True):
            exact = (rows.image[ids].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
            np.testing.assert_allclose(similarities, exact, rtol=0, atol=1e-7)
            assert sorted(zip(-similarities, ids, strict=True)) == list(zip(-similarities, ids, strict=True))


@pytest.mark.parametrize("words", FAMILIES)
def test_as_many_as_asked_though_the_nearest_lists_hold_fewer(built, queries, words):
    """C10: -1 only where the memory itself has no more, and nothing but zeros beside it."""
    with Memory.open(built(words)) as opened:
        found = opened.search(queries, 1003, modality="text", nprobe=1, num_candidates=1)
        assert (np.sort(found.ids[:, :1000]) == np.arange(1000)).all()
        assert (found.ids[:, 1000:] == -1).all()
        assert not found.mask[:, 1000:].any()
        assert not found.similarities[:, 1000:].any()
        assert not found.values[:, 1000:].any()
        assert np.isfinite(found.similarities).all()


@pytest.mark.parametrize("words", FAMILIES)
def test_deleted_rows_never_come_back(built, rows, queries, words):
    """The nearest of all are deleted, and a whole segment."""
    nearest = np.unique(scan(rows.image, queries, 20)[0]).tolist()
    gone = tuple(sorted({*nearest, *range(400, 900)}))
    with Memory.open(built(words, gone)) as opened:
        ids, similarities = scan(rows.image, queries, 10, gone)
        found = opened.search(queries, 10, modality="image", nprobe=8, num_candidates=1000)
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_allclose(found.similarities, similarities, rtol=0, atol=1e-7)
        every = opened.search(queries, 1000, modality="image", nprobe=1)
        assert not set(every.ids[every.mask].tolist()) & set(gone)
        assert every.mask.sum(axis=1).tolist() == [1000 - len(gone)] * len(queries)


@pytest.mark.parametrize("words", FAMILIES)
def test_a_row_of_a_batch_equals_a_single_request_from_many_threads(built, queries, words):
    with Memory.open(built(words)) as opened:
        batch = opened.search(queries, 9, modality="text")
        wrong: list[int] = []

        def work() -> None:
            for b in range(len(queries)):
                single = opened.search(queries[b : b + 1], 9, modality="text")
                same = np.array_equal(single.ids[0], batch.ids[b])
                if not (same and np.array_equal(single.similarities[0], batch.similarities[b])):
                    wrong.append(b)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("words", FAMILIES)
def test_a_query_that_threads_share_finds_what_one_thread_finds(built, queries, words, threads, monkeypatch):
    """More threads than lists among them; the nearest lists of a margin, and lists that were named."""
    dealt, deal = [], list_search.deal

    def counted(coarse, shares):
        dealt.append(shares)
        return deal(coarse, shares)

    with Memory.open(built(words, deletes=(3, 950))) as opened:
        ways = [{}, {"nprobe": 5, "num_candidates": 40}]
        alone = [opened.search(query[None], 10, modality="text", **way) for way in ways for query in queries]
        monkeypatch.setattr(list_search, "usable_threads", lambda: threads)
        monkeypatch.setattr(list_search, "_SHARED_CODES", 1)
        monkeypatch.setattr(list_search, "deal", counted)
        shared = [opened.search(query[None], 10, modality="text", **way) for way in ways for query in queries]
    assert set(dealt) == ({threads} if words != "IVF8,RaBitQfs" else set())
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.similarities, other.similarities)


def test_parameters_travel_with_the_call(built, queries):
    """faiss#2204: a search with other parameters changes nothing for the next one."""
    with Memory.open(built("IVF8,SQ8")) as opened:
        before = opened.search(queries, 10, modality="image")
        opened.search(queries, 10, modality="image", nprobe=8, num_candidates=900)
        opened.search(queries, 10, modality="image", nprobe=1, num_candidates=1)
        np.testing.assert_array_equal(opened.search(queries, 10, modality="image").ids, before.ids)
        for wrong in ({"nprobe": 0}, {"num_candidates": -1}, {"nprobe": True}, {"nprobe": 1.5}):
            with pytest.raises(memory.QueryShapeError):
                opened.search(queries, 10, modality="image", **wrong)
        assert opened.search(queries[:0], 10, modality="image").ids.shape == (0, 10)
        assert opened.search(queries, 0, modality="image").ids.shape == (12, 0)
        assert opened.search(queries, 3, modality="image", nprobe=10_000).mask.all()  # as many lists as there are


@pytest.mark.parametrize("words", ["IVF8,SQ8", "IVF8,RaBitQ"])
def test_shards_of_lists_are_mapped_not_read(tmp_path, factory, words):
    """MEMORY: FAISS's older flag reads some kinds into memory without a word."""
    many = factory.make_rows(3000, 128, seed=1, thumbnails=False)
    manifest = factory.commit(tmp_path / "memory", [many], options=IndexOptions(factory=words))
    with Memory.open(tmp_path / "memory") as opened:
        opened.search(factory.unit_rows(1, 128, 0), 3, modality="image")
        lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
        spans = [(fields[5], fields[0].split("-")) for fields in lines if len(fields) == 6]
        name = f"{manifest.indexes['image'].id}/shard-00000.faiss"
        mapped = sum(int(last, 16) - int(first, 16) for path, (first, last) in spans if path.endswith(name))
        assert mapped >= (tmp_path / "memory/indexes" / name).stat().st_size


@pytest.mark.parametrize("words", FAMILIES)
def test_a_memory_that_is_closed_leaves_none_of_its_files_mapped(built, queries, words):
    """Each reload would hold the shards of the version before: their maps, and the disk space of those deleted."""
    root = built(words)
    for _ in range(3):
        with Memory.open(root) as opened:
            opened.search(queries, 3, modality="image")
    del opened
    gc.collect()
    assert str(root) not in Path("/proc/self/maps").read_text()
