"""Disks that fail, sources that change, two builders at once: whatever happens, a rerun ends as an unbroken build."""

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory import Locked, Memory, WriteFailed, list_versions
from memory.format.durable import HashingWriter
from memory_builder import BuildConfig, BuildResult, Origin, build, build_from_embeddings, open_embeddings
from models.encoder import Encoder

D = 8


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    dice = np.random.default_rng(1)
    captions = np.array([f"caption {n}" if n != 3 else "" for n in range(12)])
    image, text = dice.normal(size=(2, 12, D)).astype("f4")
    np.savez(tmp_path / "cache.npz", image=image, text=text, caption=captions)
    return tmp_path / "cache.npz"


def take_over(cache: Path, memory: Path) -> BuildResult:
    config = BuildConfig((str(cache),), memory, unit_rows=5, max_error_rate=0.5)
    return build_from_embeddings(config, open_embeddings(config), Origin.undeclared("some-clip", D))


@contextmanager
def failing(patch: pytest.MonkeyPatch, owner: object, name: str, nth: int, code: int) -> Iterator[list[int]]:
    """The nth call fails as the system would have it."""
    calls, original = [0], getattr(owner, name)

    def call(*arguments: object) -> object:
        calls[0] += 1
        if calls[0] == nth:
            raise OSError(code, os.strerror(code))
        return original(*arguments)

    with patch.context() as patched:
        patched.setattr(owner, name, call)
        yield calls


@pytest.mark.parametrize(
    ("owner", "name", "code"),
    [(HashingWriter, "write", errno.ENOSPC), (os, "fsync", errno.EIO), (os, "link", errno.EIO)],
    ids=["X04 disk full at the nth write", "X05 the nth fsync fails", "X05 the nth link fails"],
)
def test_X04_X05_a_build_on_a_failing_disk_ends_well_when_it_is_mended(
    cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, code: int
) -> None:
    expected = take_over(cache, place / "whole").digest
    nth = failures = 0
    while True:
        nth += 1
        memory = place / f"memory{nth}"
        with failing(monkeypatch, owner, name, nth, code) as calls:
            try:
                take_over(cache, memory)
            except WriteFailed as error:
                failures += 1
                assert str(memory) in str(error), "it names the path"
        if calls[0] < nth:
            break
        assert not [path for path in memory.rglob(".tmp-*") if path.is_file()]
        for version in list_versions(memory):  # the fsync after link(): there, and not reported
            assert version == 1
        assert take_over(cache, memory).digest == expected
        shutil.rmtree(memory)
    assert failures >= nth - 2, "all but the hint HEAD, at most, stop a build"
    assert failures >= (2 if name == "link" else 20)


def test_B20_a_source_that_changed_before_the_resume_is_read_anew(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path]
) -> None:
    photos, memory = write_folder(tmp_path / "photos", range(20)), tmp_path / "memory"
    config = BuildConfig((str(photos),), memory, unit_rows=5, batch_size=4, max_error_rate=0)
    (photos / "001/00019.jpg").write_bytes(b"no image")
    with pytest.raises(Exception, match="too_many_rejected"):
        build(config, encoder)
    shutil.copy(photos / "000/00000.jpg", photos / "000/00007.jpg")
    (photos / "000/00002.txt").write_text("another caption")
    shutil.copy(photos / "000/00001.jpg", photos / "001/00019.jpg")
    result = build(config, encoder)
    assert (result.units_resumed, result.units_encoded) == (1, 3), "only what is as it was is kept"
    fresh = build(BuildConfig((str(photos),), tmp_path / "fresh", unit_rows=5, batch_size=4), encoder)
    assert result.digest == fresh.digest
    with Memory.open(memory) as opened:
        assert opened.captions()[2] == "another caption"


def test_X06_two_builders_of_one_directory_one_wins_and_the_other_says_so(cache: Path, tmp_path: Path) -> None:
    expected, memory = take_over(cache, tmp_path / "whole").digest, tmp_path / "memory"
    ready, go = os.pipe(), os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.write(ready[1], b".")
                os.read(go[0], 1)
                take_over(cache, memory)
                code = 0
            except Locked:
                code = 7
            finally:
                os._exit(code)
        children.append(child)
    os.read(ready[0], 1)
    os.read(ready[0], 1)
    os.write(go[1], b"..")
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes in ([0, 7], [0, 0]), "locked, or one after the other"
    assert list_versions(memory) == [1]
    with Memory.open(memory) as opened:
        assert opened.digest == expected


GOOD, BAD = 7, 3  # rows 2, 5 and 8 are broken in one way each


def _write(root: Path, form: str, image: bytes) -> Path:
    """Ten rows in each form a corpus can have: one no image, one without a caption, one of a caption that is empty."""
    images = [b"no image" if n == 2 else image for n in range(10)]
    captions = [None if n == 5 else "" if n == 8 else f"a bird {n}" for n in range(10)]
    (root / "files").mkdir()
    for number, (data, caption) in enumerate(zip(images, captions, strict=True)):
        (root / f"files/{number}.jpg").write_bytes(data)
        if caption is not None:
            (root / f"files/{number}.txt").write_text(caption)
    paths = [f"files/{number}.jpg" for number in range(10)]
    structs = pa.array([{"bytes": data, "path": None} for data in images])
    match form:
        case "folder":
            return root / "files"
        case "tar":
            with tarfile.open(root / "t.tar", "w") as archive:
                for path in sorted((root / "files").iterdir()):
                    archive.add(path, path.name)
            return root / "t.tar"
        case "csv" | "tsv":
            mark = "," if form == "csv" else "\t"
            lines = [mark.join((path, caption or "")) for path, caption in zip(paths, captions, strict=True)]
            (root / f"t.{form}").write_text("\n".join([f"path{mark}caption", *lines]))
            return root / f"t.{form}"
        case "jsonl":
            rows = [{"path": path, "caption": caption} for path, caption in zip(paths, captions, strict=True)]
            (root / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
            return root / "t.jsonl"
        case "parquet bytes":
            pq.write_table(pa.table({"image": images, "caption": captions}), root / "t.parquet", row_group_size=4)
        case "parquet paths":
            pq.write_table(pa.table({"image": paths, "caption": captions}), root / "t.parquet")
        case "arrow":
            table = pa.table({"image": structs, "caption": captions})
            with pa.OSFile(str(root / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            return root / "t.arrow"
    return root / "t.parquet"


@pytest.mark.parametrize("form", ["folder", "tar", "csv", "tsv", "jsonl", "parquet bytes", "parquet paths", "arrow"])
def test_X10_rows_in_are_rows_stored_and_rows_in_the_ledger(
    tmp_path: Path, encoder: Encoder, photo_bytes: dict[str, bytes], form: str
) -> None:
    corpus = _write(tmp_path, form, photo_bytes["jpeg"])
    config = BuildConfig((str(corpus),), tmp_path / "memory", unit_rows=4, batch_size=4, max_error_rate=0.5)
    result = build(config, encoder)
    assert (result.rows, result.added, sum(result.rejected.values())) == (10, GOOD, BAD)
    lines = (tmp_path / "memory/work/rejected.jsonl").read_text().splitlines()
    assert len(lines) == BAD
    codes = sorted(json.loads(line)["code"] for line in lines)
    missing = "text_empty" if form in ("csv", "tsv") else "missing_caption"  # an empty field is an empty text
    assert codes == sorted(["image_format_unsupported", missing, "text_empty"])
    assert result.near_duplicates == result.copies == GOOD - 1
