"""Writing: whole or not at all, exclusive, and a failed write or fsync is the end of it (X4, X5)."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from power_loss import losing_power

import memory
from memory.format import durable
from memory.format.durable import sweep_temporaries, write_bytes


def test_a_file_appears_whole_with_its_hash(tmp_path):
    written = write_bytes(tmp_path / "a", b"hello")
    assert (tmp_path / "a").read_bytes() == b"hello"
    assert (written.bytes, written.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    write_bytes(tmp_path / "a", b"new", replace=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_order_file_fsync_then_link_then_directory_fsync(tmp_path, monkeypatch):
    calls = []
    fsync, link = os.fsync, os.link

    def kind(descriptor) -> str:
        return "fsync " + ("directory" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")

    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(kind(descriptor)), fsync(descriptor)))
    monkeypatch.setattr(os, "link", lambda *names: (calls.append("link"), link(*names)))
    write_bytes(tmp_path / "a", b"hello")
    assert calls == ["fsync file", "link", "fsync directory"]


def failing(monkeypatch, nth: int) -> list[int]:
    """Let the nth fsync fail, once, the way Linux does: a second try would succeed."""
    fsync, count = os.fsync, [0]

    def fail(descriptor: int) -> None:
        count[0] += 1
        if count[0] == nth:
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    return count


def test_X5_every_failed_fsync_of_a_commit_is_fatal(tmp_path, factory, monkeypatch):
    """The nth fsync fails for n = 1, 2, …: an error each time, and never a version that was not reported."""
    nth = 0
    while True:
        nth += 1
        root = tmp_path / str(nth)
        with monkeypatch.context() as patched:
            count = failing(patched, nth)
            try:
                factory.commit(root, [factory.make_rows(3)])
                break
            except memory.WriteFailed as error:
                assert error.code == "write_failed"
                assert str(root) in str(error)
            assert count[0] == nth  # nothing was tried again
        assert not list(root.rglob(".tmp-*"))
        for version in memory.list_versions(root):  # the fsync after link(): linked, but not promised
            memory.read_manifest(root, version)
    assert nth > 25


@pytest.mark.parametrize("name", ["image.f16.npy", "text.f16.npy", "items.arrow", "segment.json"])
def test_X4_a_full_disk_while_writing_a_segment(root, factory, monkeypatch, name):
    full_disk(monkeypatch, name)
    with pytest.raises(memory.WriteFailed, match=name):
        memory.write_segment(root, [factory.make_rows(9)], [memory.UnitRecord("u", 9)])
    assert not list((root / "segments").iterdir())


@pytest.mark.parametrize("name", ["trained.faiss", "shard-00000.faiss", "report.json", "shard.json"])
def test_X4_a_full_disk_while_faiss_writes(root, factory, monkeypatch, name):
    record = memory.write_segment(root, [factory.make_rows(9)], [memory.UnitRecord("u", 9)])
    full_disk(monkeypatch, name)
    with pytest.raises(memory.WriteFailed, match=name):
        memory.build_index(root, [record], "image")
    assert not list((root / "indexes").iterdir())


def full_disk(monkeypatch, name: str) -> None:
    """ENOSPC on the second write to the file that will be called `name`."""
    original, writing = durable.HashingWriter.write, []
    write_file = durable.write_file

    def write(self, data):
        # JSON files are one write; the others fail in the middle
        if writing[-1] == name and (self.tell() > 0 or name.endswith(".json")):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    def watched(path, function, **options):
        writing.append(path.name)
        return write_file(path, function, **options)

    monkeypatch.setattr(durable.HashingWriter, "write", write)
    for module in ("memory.format.durable", "memory.format.segments", "memory.indexing.faiss_files"):
        monkeypatch.setattr(f"{module}.write_file", watched)


def test_sweeping_takes_only_temporary_names(tmp_path):
    kept = ["00000001.json", ".tmp", ".tmp-1-xyz", "tmp-1-0123456789abcdef"]
    for name in [*kept, ".tmp-1-0123456789abcdef"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".tmp-2-0123456789abcdef").mkdir()
    (tmp_path / ".tmp-2-0123456789abcdef" / "file").write_bytes(b"")
    sweep_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_importing_the_memory_imports_no_torch():
    """Workers and crash tests start this code again and again."""
    code = "import sys, memory; assert 'torch' not in sys.modules; sys.stdout.write('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "fine", done.stderr


def test_X03_a_file_that_a_killed_process_named_is_kept_by_who_finds_it(tmp_path):
    """It was killed between giving the name and the fsync that makes it last."""
    root = tmp_path / "memory"
    root.mkdir()
    with losing_power(root, tmp_path / "after") as folders:
        _write_synced(root / "draft")
        (root / "draft").rename(root / "final")  # and killed
        with pytest.raises(FileExistsError):
            write_bytes(root / "final", b"abc")
    assert (folders[-2] / "final").read_bytes() == b"abc"


def test_X03_a_directory_that_a_killed_process_named_is_kept_by_who_finds_it(tmp_path):
    root = tmp_path / "memory"
    root.mkdir()
    with losing_power(root, tmp_path / "after") as folders:
        (root / "draft").mkdir()
        _write_synced(root / "draft" / "data")
        durable.fsync_directory(root / "draft")
        (root / "draft").rename(root / "final")  # and killed
        with durable.staging_directory(root) as staging:
            _write_synced(staging / "data")
            assert not durable.commit_directory(staging, root / "final")
    assert (folders[-2] / "final" / "data").read_bytes() == b"abc"


def _write_synced(path: Path) -> None:
    with path.open("xb") as file:
        file.write(b"abc")
        file.flush()
        os.fsync(file.fileno())
