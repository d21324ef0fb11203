"""A memory of 10,000 pairs pushed to Milvus Lite's own server, judged against the exact search it came from."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memory import (
    BackendRefused,
    Contents,
    EncoderMismatch,
    KeyPatterns,
    ManifestInvalid,
    Memory,
    MemoryNotFound,
    MemoryUnavailable,
    Rows,
    UnitRecord,
    WriteFailed,
    build_index,
    publish,
    remove_keys,
    undeclared_encoder,
    write_segment,
)
from memory.milvus import MilvusMemory, MilvusServer, choose_index, connect, push
from models.fusion import Fusion, FusionConfig
from reco.backend import Kept

pytestmark = pytest.mark.milvus
N, D = 10_000, 64


def write(root: Path, factory: Any, n: int, *, seed: int = 0) -> Memory:
    """Pairs in 100 clusters: neighbours that mean something."""
    dice = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        centres = dice.standard_normal((100, D))
        rows = centres[dice.integers(0, 100, n)] + dice.standard_normal((n, D))
        sides.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16))
    rows = Rows(sides[0], sides[1], factory.make_rows(n, seed=seed, thumbnails=False).items)
    segments = (write_segment(root, [rows], [UnitRecord("unit", n)]),)
    indexes = {modality: build_index(root, segments, modality) for modality in ("image", "text")}
    publish(
        root,
        Contents(
            encoder=undeclared_encoder("test", D),
            encoded_with={"device": "cpu", "dtype": "float32"},
            segments=segments,
            indexes=indexes,
        ),
    )
    return Memory.open(root)


@pytest.fixture
def small(tmp_path: Path, factory: Any) -> Iterator[Memory]:
    with write(tmp_path / "small", factory, 600) as memory:
        yield memory


def flat(memory: Memory) -> Any:
    return choose_index("FLAT", memory.num_items)


def test_ten_thousand_pairs_agree_with_the_exact_search(milvus: Any, tmp_path: Path, factory: Any) -> None:
    memory, server = write(tmp_path / "memory", factory, N), MilvusServer(milvus.uri, timeout_s=20)
    done = push(memory, connect(server), "birds", choose_index("HNSW", N))
    assert (done.written, done.replaced) == (N, None)
    assert done.agreement >= 0.98
    kept = MilvusMemory.open("birds", server, encoder=memory.encoder)
    assert (kept.version, kept.digest, kept.num_rows, kept.num_items) == (1, memory.digest, N, N)
    assert kept.captions() == memory.captions()
    assert kept.captions([7, 3, 7]) == memory.captions([7, 3, 7]) and kept.captions([]) == []
    torch.manual_seed(0)
    fusion = Fusion(FusionConfig(design="copy", embed_dim=D, k=10)).eval()
    for modality in ("image", "text"):
        queries = memory.rows(modality, np.arange(0, N, 50))
        queries += 0.02 * np.random.default_rng(1).standard_normal(queries.shape).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        exact, found = (one.search(queries, 10, modality=modality) for one in (memory, kept))
        recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact.ids, found.ids, strict=True)])
        assert recall >= 0.98
        same = np.flatnonzero((exact.ids == found.ids).all(axis=1))
        assert len(same) > 0.8 * len(queries)
        np.testing.assert_array_equal(exact.values[same], found.values[same])
        np.testing.assert_array_equal(exact.keys[same], found.keys[same])
        np.testing.assert_allclose(exact.similarities[same], found.similarities[same], atol=1e-3)
        refined = []
        for one in (exact, found):
            parts = (queries[same], one.values[same], one.similarities[same], one.mask[same], one.keys[same])
            with torch.inference_mode():
                refined.append(fusion.refine(modality, *map(torch.from_numpy, parts)).numpy())
        assert (refined[0] * refined[1]).sum(axis=1).min() >= 0.999
    assert kept.items([7, 3]) == memory.items([7, 3])
    np.testing.assert_array_equal(kept.rows("text", [9, 9, 2]), memory.rows("text", [9, 9, 2]))


def test_another_index_for_what_is_there_is_refused(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=20)
    push(small, connect(server), "birds", flat(small))
    for other in (choose_index("HNSW", 600), choose_index("FLAT", 600, search_params={"ef": 9})):
        with pytest.raises(BackendRefused, match=r"is there, whole, with the index FLAT, and this push asks for"):
            push(small, connect(server), "birds", other)
    graph = choose_index("HNSW", 600, {"M": 8})
    push(small, connect(server), "graphs", flat(small))  # of one memory there is one collection, whatever stands for it
    with pytest.raises(BackendRefused, match="asks for HNSW M=8 efConstruction=200 ef=128"):
        push(small, connect(server), "graphs", graph)
    assert push(small, connect(server), "birds", flat(small)).written == 0


def test_a_push_that_was_broken_off_goes_on(milvus: Any, tmp_path: Path, factory: Any) -> None:
    memory, server = write(tmp_path / "memory", factory, 5000), MilvusServer(milvus.uri, timeout_s=20)

    def break_off(done: int, total: int) -> None:
        if done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(memory, connect(server), "birds", flat(memory), break_off)
    with pytest.raises(MemoryNotFound):
        MilvusMemory.open("birds", server)  # not named before it is whole
    milvus.kill()
    milvus.start()
    done = push(memory, connect(server), "birds", flat(memory))
    assert done.written == 5000 - 4096
    assert done.agreement >= 0.999  # the exact index; fp32 may swap two that are almost equal
    assert push(memory, connect(server), "birds", flat(memory)).written == 0


def test_a_new_version_takes_the_name_and_who_has_the_old_one_keeps_it(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=20)
    first = push(small, connect(server), "birds", flat(small))
    before = MilvusMemory.open("birds", server)
    gone = [small.keys()[id] for id in (0, 5)]
    remove_keys(small.path, KeyPatterns(keys=gone))
    with Memory.open(small.path) as changed:
        second = push(changed, connect(server), "birds", flat(changed))
        after = MilvusMemory.open("birds", server)
        assert (second.replaced, after.version, after.num_items) == (first.collection, 2, 598)
        np.testing.assert_array_equal(after.deleted_ids(), [0, 5])
        queries = small.rows("image", [0, 5])
        assert before.search(queries, 1, modality="image").ids.ravel().tolist() == [0, 5]
        np.testing.assert_array_equal(
            after.search(queries, 5, modality="image").ids, changed.search(queries, 5, modality="image").ids
        )
        everything = after.search(queries, 700, modality="text")
        assert everything.mask.sum(axis=1).tolist() == [598, 598]
        assert (everything.ids[:, 598:] == -1).all()
        assert not everything.values[:, 598:].any()


def test_another_encoder_a_missing_name_and_a_damaged_collection_are_refused(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=20)
    done = push(small, connect(server), "birds", flat(small))
    with pytest.raises(EncoderMismatch):
        MilvusMemory.open("birds", server, encoder=undeclared_encoder("another", D))
    with pytest.raises(MemoryNotFound, match="reco memory push"):
        MilvusMemory.open("fish", server)
    with pytest.raises(BackendRefused):
        MilvusMemory.open("birds; drop", server)
    with pytest.raises(BackendRefused, match="milvus-lite server"):
        connect(MilvusServer("./birds.db"))
    connect(server).manage("delete", done.collection, ids=[3])
    with pytest.raises(WriteFailed, match="599"):
        push(small, connect(server), "birds", flat(small))


def test_a_memory_all_of_whose_items_were_removed_is_pushed_like_another(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=20)
    push(small, connect(server), "birds", flat(small))
    remove_keys(small.path, KeyPatterns(keys=small.keys()))
    with Memory.open(small.path) as empty:
        assert push(empty, connect(server), "birds", flat(empty)).agreement == 1.0
        kept, queries = MilvusMemory.open("birds", server), small.rows("image", [1, 2])
        assert (kept.version, kept.num_items) == (2, 0)
        assert not kept.search(queries, 3, modality="image").mask.any()


def test_a_damaged_record_is_made_again_as_its_refusal_says(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=20)
    record = f"{push(small, connect(server), 'birds', flat(small)).collection}__record"
    connect(server).manage("delete", record, ids=[1])
    for refused in (
        lambda: MilvusMemory.open("birds", server),
        lambda: push(small, connect(server), "birds", flat(small)),
    ):
        with pytest.raises(ManifestInvalid, match="drop the collection COLLECTION__record"):
            refused()
    connect(server).manage("drop_collection", record)
    assert push(small, connect(server), "birds", flat(small)).written == 0
    assert MilvusMemory.open("birds", server).num_items == 600


def test_a_server_that_refuses_is_there_and_closes_the_breaker(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=2, breaker_failures=1, breaker_open_s=5)
    connection = connect(server)
    push(small, connect(MilvusServer(milvus.uri, timeout_s=20)), "birds", flat(small))
    assert connection.read("has_collection", "birds")
    milvus.kill()
    with pytest.raises(MemoryUnavailable):
        connection.read("query", "fish", filter="id >= 0")
    milvus.start()
    end = time.monotonic() + 30
    while True:
        try:
            connection.read("query", "fish", filter="id >= 0")
        except BackendRefused:
            break
        except MemoryUnavailable:
            assert time.monotonic() < end
            time.sleep(0.1)
    with pytest.raises(BackendRefused, match="fish"):  # and not: it does not answer
        connection.read("query", "fish", filter="id >= 0")


def test_a_push_does_not_show_the_password_of_the_address(milvus: Any, small: Memory) -> None:
    uri = milvus.uri.replace("://", "://root:geheim@")
    command = [sys.executable, "-m", "reco", "memory", "push", str(small.path), "--uri", uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "root:**********@" in done.stdout + done.stderr
    assert "geheim" not in done.stdout + done.stderr
    assert Kept("reco", "milvus", uri).arguments == f"reco --backend milvus --uri '{uri.replace('geheim', '*' * 10)}'"


def test_a_killed_server_is_told_at_once_and_found_again(milvus: Any, small: Memory) -> None:
    server = MilvusServer(milvus.uri, timeout_s=2, breaker_open_s=0.5)
    push(small, connect(MilvusServer(milvus.uri, timeout_s=20)), "birds", flat(small))
    kept, queries = MilvusMemory.open("birds", server), small.rows("image", [1, 2, 3])
    expected = kept.search(queries, 3, modality="image").ids
    milvus.kill()
    for _ in range(4):
        started = time.monotonic()
        with pytest.raises(MemoryUnavailable):
            kept.search(queries, 3, modality="image")
        assert time.monotonic() - started < 3
    started = time.monotonic()
    with pytest.raises(MemoryUnavailable, match="in a while"):  # the breaker: nobody is asked
        kept.search(queries, 3, modality="image")
    assert time.monotonic() - started < 0.1
    milvus.start()
    end = time.monotonic() + 30
    while True:
        try:
            found = kept.search(queries, 3, modality="image").ids
            break
        except MemoryUnavailable:
            assert time.monotonic() < end
            time.sleep(0.1)
    np.testing.assert_array_equal(found, expected)
