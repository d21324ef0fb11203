"""Searching on a GPU: the same neighbours as the CPU's, whatever is deleted, tied or beyond the GPU's limits.

Where FAISS finds no GPU, its CPU indices stand in for the GPU's, as inexact as these: all but FAISS is tested then.
With faiss-gpu and a GPU the same tests run on it (`make gpu`).
"""

import gc
import itertools
import threading
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import memory
from memory import Gpu, GpuSearchUnavailable, IndexOptions, Memory, num_gpus
from memory.format.families import Family
from memory.indexing import shards
from memory.indexing.gpu import placing, searcher
from memory.indexing.gpu.owner import GpuIndex, GpuOwner, gpu_owner
from memory.indexing.gpu.rows import GpuRows

D = 32
CUTS = [0, 400, 401, 900, 1000]
PLENTY = Gpu(0, 1 << 30, required=True)
NO_ROOM_FOR_ROWS = Gpu(0, 2 * 1000 * (D + 8), required=True)


class HalfFlat:
    """FAISS's flat index with the error of float16, which refuses what a GPU refuses."""

    def __init__(self, embed_dim: int) -> None:
        self._index = faiss.IndexFlatIP(embed_dim)
        self.threads: set[int] = set()

    def add(self, rows: np.ndarray) -> None:
        self._index.add(rows)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert k <= 2048, "a GPU finds no more"
        self.threads.add(threading.get_ident())
        return self._index.search(queries.astype(np.float16).astype(np.float32), k)


class StandIn(GpuOwner):
    """An owner without a GPU."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        super().__init__(0)

    def flat(self, embed_dim: int, *, half: bool = False) -> GpuIndex:
        self.made.append(HalfFlat(embed_dim))
        return GpuIndex(self, lambda: self.made[-1])

    def copy(self, index: Any) -> GpuIndex:
        self.made.append(index)
        return GpuIndex(self, lambda: index)


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> GpuOwner:
    if num_gpus():
        return gpu_owner(0)
    monkeypatch.setattr("memory.indexing.gpu.owner._resources", lambda: None)
    stand_in = StandIn()
    monkeypatch.setattr(placing, "num_gpus", lambda: 1)
    monkeypatch.setattr(searcher, "gpu_owner", lambda device: stand_in)
    return stand_in


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, D))[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, D))
    return unit(rows).astype(np.float16)


@pytest.fixture(scope="module")
def rows(factory) -> memory.Rows:
    return memory.Rows(clustered(1000, 1), clustered(1000, 2), factory.make_rows(1000, D, seed=1).items)


@pytest.fixture(scope="module")
def built(factory, rows, tmp_path_factory):
    """A memory of four segments for each index, with and without deleted rows; made once."""
    made: dict[tuple[str, tuple[int, ...]], Path] = {}

    def build(words: str, deletes: tuple[int, ...] = ()) -> Path:
        if (words, deletes) not in made:
            root = made[words, deletes] = tmp_path_factory.mktemp("gpu") / "memory"
            parts = [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(CUTS)]
            factory.commit(root, parts, deletes=deletes, options=IndexOptions(factory=words))
        return made[words, deletes]

    return build


QUERIES = unit(clustered(12, 5).astype(np.float32))
DELETES = tuple(range(0, 990, 3))


@pytest.mark.parametrize("deletes", [(), DELETES], ids=["whole", "deleted"])
@pytest.mark.parametrize("words", ["exact", "IVF8,SQ8", "IVF8,RaBitQ"])
def test_rows_on_a_gpu_are_found_as_a_scan_finds_them(owner, built, words, deletes) -> None:
    """Whatever the index is: ids, order, similarities and values are those of the exact index on the CPU."""
    with Memory.open(built("exact", deletes)) as scan, Memory.open(built(words, deletes), gpu=PLENTY) as opened:
        assert {(index["device"], index["scans"]) for index in opened.indices()} == {("cuda:0", "rows")}
        for modality, k in itertools.product(("image", "text"), (1, 10, 300)):
            expected = scan.search(QUERIES, k, modality=modality)
            found = opened.search(QUERIES, k, modality=modality)
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.similarities, expected.similarities)
            np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("deletes", [(), DELETES], ids=["whole", "deleted"])
def test_lists_on_a_gpu_find_what_lists_on_the_cpu_find(owner, built, deletes) -> None:
    root = built("IVF8,SQ8", deletes)
    with Memory.open(root) as on_cpu, Memory.open(root, gpu=NO_ROOM_FOR_ROWS) as on_gpu:
        assert {(index["device"], index["scans"]) for index in on_gpu.indices()} == {("cuda:0", "lists")}
        for modality in ("image", "text"):
            expected = on_cpu.search(QUERIES, 10, modality=modality)
            found = on_gpu.search(QUERIES, 10, modality=modality)
            agreed = np.mean([len(np.intersect1d(a, b)) for a, b in zip(expected.ids, found.ids, strict=True)]) / 10
            assert agreed >= 0.99
            assert not np.isin(found.ids, deletes).any()


def test_words_of_lists_and_very_many_neighbours_are_left_to_the_cpu(owner, built, monkeypatch) -> None:
    root = built("IVF8,RaBitQ")
    with Memory.open(root) as on_cpu, Memory.open(root, gpu=PLENTY) as on_gpu:
        monkeypatch.setattr(searcher, "MOST", 100)  # of the GPU, so that this needs no memory of thousands
        for k, asked in ((10, {"nprobe": 1}), (10, {"num_candidates": 10}), (101, {})):
            found, expected = (one.search(QUERIES, k, modality="text", **asked) for one in (on_gpu, on_cpu))
            np.testing.assert_array_equal(found.ids, expected.ids)


def test_more_lists_than_a_gpu_takes_are_looked_at_on_the_cpu(owner, built, monkeypatch) -> None:
    root = built("IVF8,SQ8")
    with Memory.open(root) as on_cpu, Memory.open(root, gpu=NO_ROOM_FOR_ROWS) as on_gpu:
        monkeypatch.setattr("memory.indexing.gpu.lists.MOST", 4)
        found, expected = (one.search(QUERIES, 200, modality="image") for one in (on_gpu, on_cpu))
        np.testing.assert_array_equal(found.ids, expected.ids)


@pytest.mark.parametrize("words", ["IVF8,SQ8", "IVF8,RaBitQ"])
def test_a_gpu_that_fills_shards_gets_their_centroids_once(
    owner, built, factory, rows, tmp_path, monkeypatch, words
) -> None:
    if not isinstance(owner, StandIn):
        pytest.skip("what is copied to a GPU is counted where none is")
    expected = memory.read_manifest(built(words))
    monkeypatch.setattr(shards, "num_gpus", lambda: 1)
    monkeypatch.setattr(shards, "gpu_owner", lambda device: owner)
    parts = [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(CUTS)]
    made = factory.commit(tmp_path / "memory", parts, options=IndexOptions(factory=words))
    assert made.digest == expected.digest
    assert len(owner.made) == len(memory.MODALITIES), "four shards of each"


def test_ties_beyond_the_first_candidates_are_scanned_again(owner) -> None:
    """Sixty rows tie for ten places: the smallest ids have them, as on the CPU."""
    side = clustered(500, 7)
    side[100:160] = side[100]
    query = unit(side[100:101].astype(np.float32))
    ids, similarities = GpuRows(owner, side, base_row=1000, deleted=np.array([100])).search(query, 10)
    np.testing.assert_array_equal(ids[0], np.arange(1101, 1111))
    assert (np.abs(similarities - 1) < 1e-3).all()


def test_a_segment_with_nothing_left_has_no_neighbours(owner) -> None:
    ids, _ = GpuRows(owner, clustered(5, 1), base_row=0, deleted=np.arange(5)).search(QUERIES, 3)
    assert (ids == -1).all()


def test_many_threads_use_the_gpu_by_one(owner, built) -> None:
    """FAISS's GPU objects may not be used by two threads: requests may come from any."""
    with Memory.open(built("exact"), gpu=PLENTY) as opened:
        expected = opened.search(QUERIES, 10, modality="image").ids
        found: list[np.ndarray] = []

        def ask() -> None:
            found.extend(opened.search(QUERIES, 10, modality="image").ids for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 120
        assert all(np.array_equal(ids, expected) for ids in found)
    if isinstance(owner, StandIn):
        used = {thread for index in owner.made for thread in getattr(index, "threads", ())}
        assert len(used) == 1
        assert threading.get_ident() not in used


def test_what_a_memory_held_on_a_gpu_goes_with_it(owner, built) -> None:
    index = owner.flat(D)
    held = index._held
    del index
    gc.collect()
    owner.run(lambda: None)  # after what waits in the owner's thread
    assert held == []


@pytest.mark.parametrize(
    ("family", "budget", "expected"),
    [
        (Family("exact", 0, 512), 3 << 30, ("cuda:0", "rows")),
        (Family("ivf_rabitq", 1024, 512), 5 << 30, ("cuda:0", "rows")),
        (Family("ivf_rabitq", 1024, 512), 3 << 30, ("cpu", "lists")),
        (Family("ivf_sq8", 1024, 512), 3 << 30, ("cuda:0", "lists")),
        (Family("ivf_sq8", 1024, 512), 1 << 29, ("cpu", "lists")),
    ],
)
def test_rows_go_to_a_gpu_where_they_fit_else_codes_it_knows(monkeypatch, family, budget, expected) -> None:
    monkeypatch.setattr(placing, "num_gpus", lambda: 1)
    rows = 300_000 if family.is_exact else 1_000_000
    placed, reason = placing.place(family, rows, Gpu(0, budget))
    assert (placed.device, placed.scans) == expected
    assert (reason is None) == (placed.device != "cpu")
    if placed.gpu is None:
        assert "GB" in str(reason)
        with pytest.raises(GpuSearchUnavailable, match="do not fit"):
            placing.place(family, rows, Gpu(0, budget, required=True))


def test_a_gpu_that_faiss_does_not_find_is_told_of(monkeypatch, built) -> None:
    monkeypatch.setattr(placing, "num_gpus", lambda: 0)
    with pytest.raises(GpuSearchUnavailable, match="EXTRA=gpu"):
        Memory.open(built("exact"), gpu=PLENTY)
    with Memory.open(built("exact"), gpu=Gpu(0, 1 << 30)) as opened:
        assert {index["device"] for index in opened.indices()} == {"cpu"}


def test_a_gpu_that_is_full_leaves_the_memory_to_the_cpu_or_refuses_it(owner, monkeypatch, built) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Error in cudaMalloc\nout of memory")

    monkeypatch.setattr(GpuOwner, "flat", full)
    if isinstance(owner, StandIn):
        monkeypatch.setattr(StandIn, "flat", full)
    with pytest.raises(GpuSearchUnavailable, match="out of memory"):
        Memory.open(built("exact"), gpu=PLENTY)
    with Memory.open(built("exact"), gpu=Gpu(0, 1 << 30)) as opened:
        assert {index["device"] for index in opened.indices()} == {"cpu"}
        assert opened.search(QUERIES, 3, modality="image").mask.all()
