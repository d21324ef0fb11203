"""Hashing once per host: what stamps let pass, what they do not; and the report of `reco memory verify`."""

import hashlib
import io
import os
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

import memory
from memory import Memory, default_stamp_directory, verify_memory


@pytest.fixture
def stamps(tmp_path) -> Path:
    return tmp_path / "cache" / "reco"


def corrupt_in_secret(path: Path) -> None:
    """Flip the last byte, keeping inode, size and mtime."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def some_file(root: Path) -> Path:
    return next(root.glob("segments/*/image.f16.npy"))


def test_a_stamped_file_is_not_hashed_again_unless_forced(built, stamps):
    Memory.open(built, stamps=stamps).close()
    # segment.json is read by nobody on opening: only a hash can tell
    corrupt_in_secret(next(built.glob("segments/*/segment.json")))
    Memory.open(built, stamps=stamps).close()
    for options in ({"stamps": stamps, "verify": True}, {"stamps": None}):
        with pytest.raises(memory.ShardHashMismatch, match=r"segment\.json"):
            Memory.open(built, **options)


@pytest.mark.parametrize("change", ["mtime", "inode", "size"])
def test_a_stamp_of_a_changed_file_is_void(built, stamps, change):
    Memory.open(built, stamps=stamps).close()
    path = next(built.glob("indexes/*/report.json"))
    if change == "size":
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(memory.ShardSizeMismatch):
            Memory.open(built, stamps=stamps)
        return
    before = path.stat()
    corrupt_in_secret(path)
    if change == "mtime":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    else:
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        copy.replace(path)
    with pytest.raises(memory.ShardHashMismatch):
        Memory.open(built, stamps=stamps)


def test_stamps_stay_outside_the_memory(built, stamps):
    before = sorted(built.rglob("*"))
    Memory.open(built, stamps=stamps).close()
    Memory.open(built).close()
    assert sorted(built.rglob("*")) == before
    assert len(list(stamps.iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b'{"HEAD":1}', b'{"x":[1,2]}', b"[" * 100_000])
def test_damaged_stamps_cost_time_and_nothing_else(built, stamps, data):
    Memory.open(built, stamps=stamps).close()
    file = next(stamps.iterdir())
    good = file.read_bytes()
    file.write_bytes(data)
    Memory.open(built, stamps=stamps).close()
    assert file.read_bytes() == good


def test_stamps_that_cannot_be_kept_do_not_keep_a_memory_from_opening(built, tmp_path, caplog):
    (tmp_path / "cache").write_bytes(b"a file where the directory should be")
    Memory.open(built, stamps=tmp_path / "cache" / "reco").close()
    assert "stamps cannot be kept" in caplog.text


def test_the_next_version_hashes_only_what_is_new(built, stamps, factory, monkeypatch):

    Memory.open(built, stamps=stamps).close()
    old = {file.path for file in memory.read_manifest(built).files}
    manifest = factory.commit(built, [factory.make_rows(40, seed=1), factory.make_rows(9, seed=3)], parent=1)
    hashed = []
    digest = hashlib.file_digest

    def counting(file, name):
        hashed.append(str(Path(f"/proc/self/fd/{file.fileno()}").readlink().relative_to(built.resolve())))
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    Memory.open(built, stamps=stamps).close()
    segment = f"segments/{manifest.segments[0].id}/"
    assert not [path for path in hashed if path.startswith(segment)]
    assert sorted(hashed) == sorted({file.path for file in manifest.files} - old)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/reco")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/reco"),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache/reco"),
        ({}, Path.home() / ".cache/reco"),
    ],
)
def test_the_default_directory_follows_xdg(environment, expected):
    assert default_stamp_directory(environment) == expected


@pytest.mark.parametrize("given", [1, 3])
def test_hashing_takes_the_threads_the_process_was_given(built, given, monkeypatch):
    """Not one for each core of the host: a container may use fewer."""
    digest, seen = hashlib.file_digest, set()

    def hashed(*arguments):
        seen.add(threading.current_thread().name)
        time.sleep(0.01)  # lets every thread there is take a file
        return digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", hashed)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(given)
    try:
        assert verify_memory(built, full=True).ok
    finally:
        faiss.omp_set_num_threads(before)
    assert len(seen) == given


def test_verify_reports_a_sound_memory(built):
    for full in (False, True):
        report = verify_memory(built, full)
        assert report.ok
        assert (report.version, report.full, report.problems) == (1, full, ())
        manifest = memory.read_manifest(built)
        assert (report.digest, report.num_files) == (manifest.digest, len(manifest.files))


def test_verify_reports_every_fault(built):
    some_file(built).unlink()
    corrupt_in_secret(next(built.glob("indexes/*/report.json")))
    items = next(built.glob("segments/*/items.arrow"))
    items.write_bytes(items.read_bytes() + b"x")
    codes = [problem.code for problem in verify_memory(built, full=False).problems]
    assert sorted(codes) == ["file_missing", "shard_size_mismatch"]
    codes = [problem.code for problem in verify_memory(built, full=True).problems]
    assert sorted(codes) == ["file_missing", "shard_hash_mismatch", "shard_size_mismatch"]


def test_full_verify_compares_every_vector(built, factory):
    """A shard with right hashes whose middle row is another's: no probe of an ordinary open looks there."""

    manifest = memory.read_manifest(built)
    name = f"indexes/{manifest.indexes['image'].id}/shard-00000.faiss"
    rows = np.load(built / f"segments/{manifest.segments[0].id}/image.f16.npy").astype(np.float32)
    rows[1] = rows[0]
    index = faiss.IndexScalarQuantizer(24, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(rows)
    factory.replace_file(built, name, faiss.serialize_index(index).tobytes())
    Memory.open(built).close()
    assert verify_memory(built).ok
    assert [problem.code for problem in verify_memory(built, full=True).problems] == ["shard_invalid"]


def test_full_verify_looks_at_norms(built, factory):
    """Rows scaled by 1.01, and the shard with them: hashes agree, the vectors are no embeddings."""

    manifest = memory.read_manifest(built)
    name = f"segments/{manifest.segments[0].id}/image.f16.npy"
    rows = (np.load(built / name) * np.float16(1.01)).astype(np.float16)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    factory.replace_file(built, name, buffer.getvalue())
    index = faiss.IndexScalarQuantizer(24, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(rows.astype(np.float32))
    shard = f"indexes/{manifest.indexes['image'].id}/shard-00000.faiss"
    factory.replace_file(built, shard, faiss.serialize_index(index).tobytes())
    assert [problem.code for problem in verify_memory(built, full=True).problems] == ["segment_invalid"]


def test_verify_of_a_damaged_manifest_is_a_report_not_a_crash(built, tmp_path):
    (built / "manifests/00000001.json").write_bytes(b"{}")
    report = verify_memory(built)
    assert not report.ok
    assert report.version is None
    assert [problem.code for problem in report.problems] == ["manifest_invalid"]
    with pytest.raises(memory.MemoryNotFound):
        verify_memory(tmp_path / "nowhere")
