"""Files of an index of lists, damaged or exchanged: refused as those of an exact one are (F1 to F7, F10)."""

import faiss
import numpy as np
import pytest

import memory
from memory import IndexOptions, Memory

D = 24
FAMILIES = ["IVF8,SQ8", "IVF8,RaBitQ", "IVF8,RaBitQfs"]


@pytest.fixture(scope="module")
def originals(factory, tmp_path_factory):
    roots = {}
    for words in FAMILIES:
        roots[words] = tmp_path_factory.mktemp("lists") / "memory"
        parts = [factory.make_rows(300, D, seed=1), factory.make_rows(200, D, seed=2)]
        factory.commit(roots[words], parts, options=IndexOptions(factory=words))
    return roots


@pytest.fixture(params=FAMILIES)
def built(request, root, originals):
    import shutil

    shutil.copytree(originals[request.param], root)
    return root


def image_file(root, name):
    return root / f"indexes/{memory.read_manifest(root).indexes['image'].id}/{name}"


def refused(root) -> memory.MemoryStoreError:
    with pytest.raises(memory.MemoryStoreError) as refusal:
        Memory.open(root)
    return refusal.value


@pytest.mark.parametrize("name", ["trained.faiss", "shard-00000.faiss"])
def test_F01_F02_F04_F10_damage_is_refused_before_faiss_reads_a_byte(built, monkeypatch, name):
    def read(*_: object) -> None:
        raise AssertionError("FAISS read a file that was not checked")

    monkeypatch.setattr(faiss, "read_index", read)
    path = image_file(built, name)
    data = path.read_bytes()
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert refused(built).code == "shard_size_mismatch"
    for at in np.random.default_rng(1).integers(0, len(data), 20).tolist():
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert refused(built).code == "shard_hash_mismatch"
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert refused(built).code == "shard_size_mismatch"


def replaced(factory, root, name: str, index) -> memory.MemoryStoreError:
    """With right sizes and hashes: only the file itself can tell."""
    path = image_file(root, name)
    factory.replace_file(root, str(path.relative_to(root)), faiss.serialize_index(index).tobytes())
    return refused(root)


def made(words: str, d: int = D, rows: int = 300, metric: int = faiss.METRIC_INNER_PRODUCT):
    """An index of the right form over other rows."""
    index = faiss.index_factory(d, words, metric)
    data = np.random.default_rng(7).standard_normal((max(rows, 300), d)).astype(np.float32)
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    index.train(data)
    if rows:
        index.add(data[:rows])
    return index


@pytest.mark.parametrize(
    "which", ["Flat", "IVF8,Flat", "IVF9,SQ8", "IVF8,SQ6", "IVF8,PQ8np", "D", "metric", "rows", "other rows"]
)
def test_F05_F07_a_shard_of_another_kind_or_build(built, factory, which):
    words = memory.read_manifest(built).indexes["image"].factory.rpartition("IVF8")[2]
    index = {
        "D": lambda: made("IVF8" + words, d=32),
        "metric": lambda: made("IVF8" + words, metric=faiss.METRIC_L2),
        "rows": lambda: made("IVF8" + words, rows=299),
        "other rows": lambda: made("IVF8" + words),
    }.get(which, lambda: made(which))()
    assert replaced(factory, built, "shard-00000.faiss", index).code == "shard_invalid"


@pytest.mark.parametrize("which", ["Flat", "IVF9,SQ8", "D", "with rows", "untrained"])
def test_F05_trained_of_another_kind(built, factory, which):
    words = memory.read_manifest(built).indexes["image"].factory
    index = {
        "D": lambda: made(words.replace(f"RR{D}", "RR32"), d=32, rows=0),
        "with rows": lambda: made(words),
        "untrained": lambda: faiss.index_factory(D, words, faiss.METRIC_INNER_PRODUCT),
    }.get(which, lambda: made(which, rows=0))()
    assert replaced(factory, built, "trained.faiss", index).code == "shard_invalid"


@pytest.mark.parametrize("data", [b"garbage", b"IwSq", b"\0" * 64])
def test_F05_what_faiss_cannot_read(built, factory, data):
    path = image_file(built, "shard-00001.faiss")
    factory.replace_file(built, str(path.relative_to(built)), data)
    assert refused(built).code == "shard_invalid"


def test_F07_full_verification_finds_two_shards_of_the_same_size_exchanged(root, factory):
    """Rows of another segment under right names, sizes and hashes."""
    parts = [factory.make_rows(200, D, seed=1), factory.make_rows(200, D, seed=2)]
    factory.commit(root, parts, options=IndexOptions(factory="IVF8,SQ8"))
    first, second = (image_file(root, f"shard-0000{i}.faiss") for i in (0, 1))
    one, other = first.read_bytes(), second.read_bytes()
    factory.replace_file(root, str(first.relative_to(root)), other)
    factory.replace_file(root, str(second.relative_to(root)), one)
    [problem] = memory.verify_memory(root, full=True).problems
    assert problem.code == "shard_invalid"
    assert refused(root).code == "shard_invalid"


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "ivf_pq"},
        {"kind": "exact"},
        {"factory": "IVF8,Flat"},
        {"factory": "IVF08,SQ8"},
        {"factory": "IVF8000000,SQ8"},
        {"search": {"nprobe": 9, "num_candidates": 16}},
        {"search": {"nprobe": 0, "num_candidates": 16}},
        {"search": {"nprobe": 1, "num_candidates": 10**6}},
        {"search": {"nprobe": 1}},
        {"search": {"nprobe": 1, "num_candidates": 16, "margin": -0.5}},
        {"search": {"nprobe": 1, "num_candidates": 16, "margin": 1}},
        {"search": {"nprobe": 1, "num_candidates": 16, "margin": None}},
        {"search": {"nprobe": 1, "num_candidates": 16, "ht": 1}},
        {"search": None},
    ],
)
def test_F08_a_manifest_that_says_something_else_of_its_index(built, factory, edit):
    factory.tamper(built, lambda manifest: manifest["indexes"]["image"].update(edit))
    assert refused(built).code == "manifest_invalid"


def test_F08_a_report_of_another_index(built, factory):
    path = image_file(built, "report.json")
    for data in (b'{"kind":"exact"}\n', b"[]\n", b"{"):
        factory.replace_file(built, str(path.relative_to(built)), data)
        assert refused(built).code == "shard_invalid"
