"""Every file of a finished memory, damaged in every way: refused before FAISS reads a byte (F1 to F11)."""

import faiss
import numpy as np
import pytest

import memory
from memory import Memory, read_manifest

FILES = [
    "manifest", "image.f16.npy", "text.f16.npy", "items.arrow", "segment.json",
    "trained.faiss", "shard-00000.faiss", "shard-00001.faiss", "shard.json", "report.json", "deletes",
]  # fmt: skip


@pytest.fixture
def faiss_untouched(monkeypatch):
    def read(*_: object) -> None:
        raise AssertionError("FAISS read a file that was not checked")

    monkeypatch.setattr(faiss, "read_index", read)


def paths(root, name) -> list:
    if name == "manifest":
        return [root / "manifests/00000001.json"]
    named = [root / file.path for file in read_manifest(root).files]
    return [path for path in named if path.name == name or (name == "deletes" and path.parent.name == name)]


def refused(root) -> memory.MemoryStoreError:
    with pytest.raises(memory.MemoryStoreError) as refusal:
        Memory.open(root)
    return refusal.value


def damage(root, name, change, code) -> None:
    for path in paths(root, name):
        original = path.read_bytes()
        for changed in change(original):
            assert changed != original
            path.write_bytes(changed)
            error = refused(root)
            assert error.code == ("manifest_invalid" if name == "manifest" else code)
            assert path.name in str(error) or name == "manifest"
        path.write_bytes(original)


def test_every_file_is_covered(built):
    covered = {path for name in FILES if name != "manifest" for path in paths(built, name)}
    named = {built / file.path for file in read_manifest(built).files}
    outside = {built / "HEAD", built / "manifests/00000001.json"}
    on_disk = {path for path in built.rglob("*") if path.is_file()} - outside
    assert covered == named == on_disk


@pytest.mark.parametrize("name", FILES)
def test_F01_truncated_anywhere(built, faiss_untouched, name):
    def change(data):
        return [data[:cut] for cut in {0, 1, len(data) // 2, len(data) - 1}] + [data + b"\0"]

    damage(built, name, change, "shard_size_mismatch")


@pytest.mark.parametrize("name", FILES)
def test_F02_F03_one_bit_flipped(built, faiss_untouched, name):
    def change(data):
        rng = np.random.default_rng(len(data))
        # the header byte by byte, the rest by chance
        for at in [*range(min(8, len(data))), *rng.integers(0, len(data), 20), len(data) - 1]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << int(rng.integers(8))
            yield bytes(flipped)

    damage(built, name, change, "shard_hash_mismatch")


@pytest.mark.parametrize("name", FILES)
def test_F04_a_page_zeroed(built, faiss_untouched, name):
    def change(data):
        start = len(data) // 3
        return [data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]]

    damage(built, name, change, "shard_hash_mismatch")


@pytest.mark.parametrize("name", FILES[1:])
def test_F11_missing(built, faiss_untouched, name):
    for path in paths(built, name):
        path.rename(built / "aside")
        assert refused(built).code == "file_missing"
        (built / "aside").rename(path)


def other_indexes() -> dict[str, faiss.Index]:
    ip, l2, fp16 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2, faiss.ScalarQuantizer.QT_fp16
    made = {
        "another D": faiss.IndexScalarQuantizer(12, fp16, ip),
        "another metric": faiss.IndexScalarQuantizer(24, fp16, l2),
        "another quantiser": faiss.IndexScalarQuantizer(24, faiss.ScalarQuantizer.QT_bf16, ip),
        "another type": faiss.IndexFlatIP(24),
        "fewer rows": faiss.IndexScalarQuantizer(24, fp16, ip),
        "other rows": faiss.IndexScalarQuantizer(24, fp16, ip),
    }
    for name, index in made.items():
        index.add(np.eye(40, index.d, dtype=np.float32)[: 39 if name == "fewer rows" else 40])
    return made


@pytest.mark.parametrize("kind", list(other_indexes()))
def test_F05_F07_a_shard_of_another_kind_or_build(built, factory, kind):
    """With right sizes and hashes: only the shard itself can tell."""
    shard = next(path for path in paths(built, "shard-00000.faiss"))
    data = faiss.serialize_index(other_indexes()[kind]).tobytes()
    factory.replace_file(built, str(shard.relative_to(built)), data)
    assert refused(built).code == "shard_invalid"


@pytest.mark.parametrize("data", [b"garbage", b"IxSQ", b"\0" * 64])
def test_F05_what_faiss_cannot_read(built, factory, data):
    shard = next(path for path in paths(built, "shard-00000.faiss"))
    factory.replace_file(built, str(shard.relative_to(built)), data)
    assert refused(built).code == "shard_invalid"


def npy(array) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((39, 24), np.float16)),
        npy(np.zeros((40, 24), np.float32)),
        npy(np.asfortranarray(np.zeros((40, 24), np.float16))),
        npy(np.array([object()] * 3, dtype=object)),
        npy(np.zeros(2, np.float16)).replace(b"(2,)", b"(2000000000000,)"),
        b"garbage",
        b"PK\x03\x04",
    ],
)
def test_F15_F19_embeddings_of_another_form(built, factory, data):
    for path in paths(built, "image.f16.npy")[:1]:
        factory.replace_file(built, str(path.relative_to(built)), data)
        assert refused(built).code == "segment_invalid"


def test_F07_items_of_another_length(built, factory):
    first, second = paths(built, "items.arrow")
    factory.replace_file(built, str(first.relative_to(built)), second.read_bytes())
    assert refused(built).code == "segment_invalid"


def test_F10_a_sparse_terabyte_is_refused_before_it_is_read(built):
    shard = paths(built, "shard-00000.faiss")[0]
    with shard.open("r+b") as file:
        file.truncate(1 << 40)
    assert refused(built).code == "shard_size_mismatch"


def test_F11_files_that_vanish_after_opening_change_nothing(built, factory):
    import shutil

    opened = Memory.open(built)
    queries = factory.unit_rows(4, factory.D, 0)
    before = opened.search(queries, 5, modality="image")
    shutil.rmtree(built)
    after = opened.search(queries, 5, modality="image")
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_array_equal(before.values, after.values)
    assert opened.items([0])[0].key == "1-0"


@pytest.mark.parametrize("ids", [[5, 3], [3, 3], [3, 70], [-1, 3]])
def test_delete_lists_must_be_sound(built, factory, ids):
    path = paths(built, "deletes")[0]
    data = npy(np.array(ids, np.int64))

    def rename(manifest):
        import hashlib

        digest = hashlib.sha256(data).hexdigest()
        del manifest["files"][f"deletes/{path.name}"]
        manifest["files"][f"deletes/{digest[:32]}.npy"] = {"bytes": len(data), "sha256": digest}
        manifest["deletes"][0]["id"] = digest[:32]
        (built / f"deletes/{digest[:32]}.npy").write_bytes(data)

    factory.tamper(built, rename)
    if ids == [5, 3]:
        # order within a list is not trusted: ids are sorted on opening
        assert Memory.open(built).deleted_ids().tolist() == [3, 5]
    else:
        assert refused(built).code == "segment_invalid"
