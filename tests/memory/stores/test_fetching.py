"""A memory in an object store: copied whole and checked, or not at all. On moto's S3-compatible server."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memory
from memory import Memory, RemoteMemories, collect, list_versions
from memory.stores import StoredObject, fetching

pytestmark = pytest.mark.stores
ALLOWED = ("s3",)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteMemories:
    return RemoteMemories(ALLOWED, tmp_path / "copies", stamps=tmp_path / "stamps")


@pytest.fixture
def fetched_bytes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many bytes of each object were asked for."""
    counts: Counter[str] = Counter()
    read = StoredObject.read

    def counting(self: StoredObject, start: int, stop: int) -> bytes:
        data = read(self, start, stop)
        counts[self.name] += len(data)
        return data

    monkeypatch.setattr(StoredObject, "read", counting)
    return counts


@pytest.fixture
def grow(factory: Any) -> Callable[[Path], None]:
    """Commit a second version of `built`, with ten rows more."""
    rows = [factory.make_rows(count, seed=seed) for count, seed in ((40, 1), (30, 2), (10, 3))]
    return lambda root: factory.commit(root, rows, parent=1)


def answers(root: Path) -> Any:
    with Memory.open(root) as opened:
        queries = opened.rows("image", np.arange(5))
        return opened.digest, opened.search(queries, 3, modality="image").ids.tolist()


def test_the_copy_is_the_memory(bucket: Any, built: Path, remote: RemoteMemories) -> None:
    copy = remote.fetch(bucket.upload(built, "memories/birds"))
    assert answers(copy) == answers(built)
    assert memory.verify_memory(copy, full=True).ok
    assert not list(copy.rglob("*.part")) and not (copy / "work/fetched").exists()


def test_what_is_here_is_not_fetched_again(
    bucket: Any, built: Path, remote: RemoteMemories, fetched_bytes: Counter[str]
) -> None:
    address = bucket.upload(built, "birds")
    remote.fetch(address)
    fetched_bytes.clear()
    copy = remote.fetch(address + "/")
    assert set(fetched_bytes) == {"00000001.json"}
    with Memory.open(copy, stamps=remote.stamps):
        pass


def test_a_newer_version_brings_what_is_new_and_the_older_stays_until_gc(
    bucket: Any, built: Path, remote: RemoteMemories, fetched_bytes: Counter[str], grow: Callable[[Path], None]
) -> None:
    address = bucket.upload(built, "birds")
    copy = remote.fetch(address)
    before = answers(copy)
    first = {path.name for path in (built / "segments").iterdir()}
    grow(built)
    bucket.upload(built, "birds")
    fetched_bytes.clear()
    assert remote.fetch(address) == copy
    assert answers(copy) == answers(built) != before
    assert fetched_bytes["image.f16.npy"] < 2 * 10 * 24 * 2 + 256  # of the new segment alone
    assert list_versions(copy) == [1, 2]
    with Memory.open(copy, version=1) as opened:
        assert opened.num_items == 68
    collect(copy, keep=1)
    assert list_versions(copy) == [2]
    assert first <= {path.name for path in (copy / "segments").iterdir()}
    assert answers(copy) == answers(built)


def test_a_corrupt_object_is_refused_and_nothing_of_it_is_used(
    bucket: Any, built: Path, remote: RemoteMemories
) -> None:
    address = bucket.upload(built, "birds")
    key = next(key for key in bucket.keys("birds/segments") if key.endswith("text.f16.npy"))
    data = bytearray(bucket.get(key))
    data[len(data) // 2] ^= 1
    bucket.put(key, bytes(data))
    with pytest.raises(memory.ShardHashMismatch, match="upload it again"):
        remote.fetch(address)
    copy = remote.copy_of(address)
    assert list_versions(copy) == []
    assert not (copy / key.removeprefix("birds/")).exists()
    data[len(data) // 2] ^= 1
    bucket.put(key, bytes(data))
    assert answers(remote.fetch(address)) == answers(built)


def test_a_missing_object_a_damaged_manifest_and_no_memory_are_told(
    bucket: Any, built: Path, remote: RemoteMemories
) -> None:
    address = bucket.upload(built, "birds")
    key = next(key for key in bucket.keys("birds/segments") if key.endswith("items.arrow"))
    items = bucket.get(key)
    bucket.delete(key)
    with pytest.raises(memory.FileMissing, match="is not there"):
        remote.fetch(address)
    bucket.put(key, items)
    bucket.put("birds/manifests/00000002.json", bucket.get("birds/manifests/00000001.json").replace(b"70", b"71"))
    with pytest.raises(memory.ManifestInvalid, match="Upload it again"):
        remote.fetch(address)
    with pytest.raises(memory.MemoryNotFound, match="holds no memory"):
        remote.fetch(bucket.address("nothing"))
    with pytest.raises(memory.MemoryNotFound):
        remote.fetch("s3://no-such-bucket-anywhere/birds")


def test_an_interrupted_fetch_goes_on(
    bucket: Any, built: Path, tmp_path: Path, fetched_bytes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_CHUNK_BYTES", 512)
    monkeypatch.setattr(fetching, "_FILES_AT_ONCE", 1)
    address = bucket.upload(built, "birds")
    total = sum(file.bytes for file in memory.read_manifest(built).files)

    def stop(done: int, all_of_it: int) -> None:
        assert all_of_it == total
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RemoteMemories(ALLOWED, tmp_path / "copies", report=stop).fetch(address)
    copies = RemoteMemories(ALLOWED, tmp_path / "copies")
    assert list_versions(copies.copy_of(address)) == []
    assert any((copies.copy_of(address) / "work/fetched").iterdir())
    fetched_bytes.clear()
    told: list[tuple[int, int]] = []
    copy = RemoteMemories(ALLOWED, tmp_path / "copies", report=lambda *done: told.append(done)).fetch(address)
    assert answers(copy) == answers(built)
    del fetched_bytes["00000001.json"]
    assert fetched_bytes.total() < 0.6 * total
    assert told[-1] == (total, total)


def test_a_damaged_part_is_fetched_anew(bucket: Any, built: Path, remote: RemoteMemories) -> None:
    address = bucket.upload(built, "birds")
    parts = remote.copy_of(address) / "work/fetched"
    parts.mkdir(parents=True)
    for file in memory.read_manifest(built).files:
        (parts / f"{file.path.replace('/', '_')}-{file.sha256[:16]}").write_bytes(b"what another disk left" * 9)
    assert answers(remote.fetch(address)) == answers(built)


def test_an_address_that_holds_another_memory_now_is_followed(
    bucket: Any, built: Path, tmp_path: Path, remote: RemoteMemories, grow: Callable[[Path], None], factory: Any
) -> None:
    grow(built)
    address = bucket.upload(built, "birds")
    remote.fetch(address)
    factory.commit(tmp_path / "other", [factory.make_rows(30, seed=9)])
    for key in bucket.keys("birds"):
        bucket.delete(key)
    bucket.upload(tmp_path / "other", "birds")
    copy = remote.fetch(address)
    assert list_versions(copy) == [1]
    assert answers(copy) == answers(tmp_path / "other")


def test_two_at_once_make_one_copy(bucket: Any, built: Path, remote: RemoteMemories) -> None:
    address = bucket.upload(built, "birds")
    copies: list[Path] = []
    threads = [threading.Thread(target=lambda: copies.append(remote.fetch(address))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert copies == [remote.copy_of(address)] * 3
    assert answers(copies[0]) == answers(built)


def test_a_disk_that_is_too_small_is_told_before(
    bucket: Any, built: Path, remote: RemoteMemories, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = bucket.upload(built, "birds")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(memory.WriteFailed, match="are free"):
        remote.fetch(address)


def test_open_memory_takes_an_address(bucket: Any, built: Path, remote: RemoteMemories) -> None:
    address = bucket.upload(built, "birds")
    with pytest.raises(memory.StoreRefused):
        memory.open_memory(address)
    opened = memory.open_memory(address, remote=remote)
    assert opened.digest == memory.read_manifest(built).digest
    opened.close()


def test_another_key_or_none_is_told(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory.stores import stored

    stored._files.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    stored._files("s3").clear_instance_cache()
    stored._files.cache_clear()
    with pytest.raises(memory.StoreRefused, match="no credentials"):
        RemoteMemories(ALLOWED, tmp_path).fetch(bucket.address("birds"))
    stored._files("s3").clear_instance_cache()
    stored._files.cache_clear()
