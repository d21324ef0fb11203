"""Corpora in an object store: the rows of the same files on a disk, resumed exactly, and never a mixture of two states.

On moto's S3-compatible server.
"""

import csv
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory import Memory
from memory.stores import StoredObject, stored
from memory_builder import BuildResult, CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.records import Record

pytestmark = pytest.mark.stores

Run = Callable[..., BuildResult]
Shards = Callable[[Path, Iterable[int]], Path]


def contents(root: Path) -> dict[str, tuple[str, bytes]]:
    """Caption, and bytes of the image embedding, of each key."""
    with Memory.open(root) as opened:
        rows = opened.rows("image", np.arange(opened.num_rows))
        return {
            key: (caption, row.tobytes())
            for key, caption, row in zip(opened.keys(), opened.captions(), rows, strict=True)
        }


@pytest.fixture
def shards(tmp_path: Path, write_shard: Shards) -> list[Path]:
    """Three tars of 20 pairs."""
    (tmp_path / "shards").mkdir()
    return [write_shard(tmp_path / f"shards/{n:02d}.tar", range(20 * n, 20 * n + 20)) for n in range(3)]


def upload(bucket: Any, paths: Iterable[Path], prefix: str = "shards") -> None:
    for path in paths:
        bucket.put(f"{prefix}/{path.name}", path.read_bytes())


@pytest.mark.parametrize("pattern", ["shards/{00..02}.tar", "shards/*.tar", "shards/0[0-2].tar"])
def test_tars_give_the_memory_that_local_ones_give(
    pattern: str, bucket: Any, shards: list[Path], run: Run, tmp_path: Path
) -> None:
    upload(bucket, shards)
    built = run(bucket.address(pattern), allow_remote=("s3",))
    assert built.added == 60
    run(*shards, memory=tmp_path / "local")
    assert contents(tmp_path / "memory") == contents(tmp_path / "local")


def test_a_parquet_file_gives_what_a_local_one_gives(
    bucket: Any, tmp_path: Path, run: Run, write_folder: Shards
) -> None:
    folder = write_folder(tmp_path / "folder", range(50))
    images = sorted(folder.rglob("*.jpg"))
    columns = {
        "image": [image.read_bytes() for image in images],
        "caption": [image.with_suffix(".txt").read_text() for image in images],
    }
    path = tmp_path / "birds.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=20)
    upload(bucket, [path], "tables")
    run(bucket.address("tables/birds.parquet"), allow_remote=("s3",))
    run(path, memory=tmp_path / "local")
    assert contents(tmp_path / "memory") == contents(tmp_path / "local")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_names_the_images_beside_it(
    kind: str, bucket: Any, tmp_path: Path, run: Run, write_folder: Shards
) -> None:
    folder = write_folder(tmp_path / "world", range(20))
    images = sorted(folder.rglob("*.jpg"))
    rows = [(str(image.relative_to(folder)), image.with_suffix(".txt").read_text().strip()) for image in images]
    rows += [("../outside.jpg", "leads out"), ("gone.jpg", "is not there"), ("empty.jpg", "holds nothing")]
    (folder / "empty.jpg").write_bytes(b"")
    table = folder / f"table.{kind}"
    if kind == "csv":
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "caption"), *rows])
    else:
        pq.write_table(pa.table({"path": [row[0] for row in rows], "caption": [row[1] for row in rows]}), table)
    address = bucket.upload(folder, "world")
    bucket.put("outside.jpg", images[0].read_bytes())
    told = run(f"{address}/table.{kind}", allow_remote=("s3",), max_error_rate=1.0)
    assert told.rejected == {"path_outside": 1, "missing_image": 1, "image_empty": 1}
    assert run(table, memory=tmp_path / "local", max_error_rate=1.0).rejected == told.rejected
    assert contents(tmp_path / "memory") == contents(tmp_path / "local")


def test_an_image_that_changed_is_encoded_anew(bucket: Any, tmp_path: Path, run: Run, write_folder: Shards) -> None:
    folder = write_folder(tmp_path / "world", range(20))
    images = sorted(folder.rglob("*.jpg"))
    lines = [f'{{"path": "{image.relative_to(folder)}", "caption": "{image.stem}"}}\n' for image in images]
    (folder / "table.jsonl").write_text("".join(lines))
    address = bucket.upload(folder, "world") + "/table.jsonl"
    run(address, allow_remote=("s3",), unit_rows=5)
    bucket.put(f"world/{images[7].relative_to(folder)}", images[0].read_bytes())
    again = run(address, allow_remote=("s3",), unit_rows=5, upsert=True)
    assert again.replaced == 1
    told = run(address, allow_remote=("s3",), unit_rows=5)
    assert told.units_encoded <= 1


def test_a_killed_build_goes_on_to_the_same_digest(
    bucket: Any, tmp_path: Path, shards: list[Path], encoder_dir: Path
) -> None:
    upload(bucket, shards)

    def command(memory: str) -> list[str]:
        return [
            sys.executable, "-m", "reco.cli", "build", bucket.address("shards/*.tar"), "--allow-remote", "s3",
            "-o", str(tmp_path / memory), "--model", str(encoder_dir), "--device", "cpu", "--dtype", "float32",
            "--unit-rows", "10", "--batch-size", "2", "--workers", "1",
        ]  # fmt: skip

    subprocess.run(command("unbroken"), check=True, capture_output=True)
    build = subprocess.Popen(command("broken"), stderr=subprocess.DEVNULL)
    units = tmp_path / "broken/work/units"
    while build.poll() is None and not list(units.glob("*/unit.json")):
        time.sleep(0.01)
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    assert not (tmp_path / "broken/manifests").exists(), "killed too late to say anything"
    finished = {path.parent.name: path.stat().st_mtime_ns for path in units.glob("*/unit.json")}
    assert finished
    done = subprocess.run(command("broken"), check=True, capture_output=True, text=True)
    assert "60 items" in done.stderr
    with Memory.open(tmp_path / "unbroken") as whole, Memory.open(tmp_path / "broken") as resumed:
        assert resumed.digest == whole.digest


def test_a_tar_that_is_replaced_is_noticed_and_then_read_anew(
    bucket: Any, shards: list[Path], run: Run, write_shard: Shards, tmp_path: Path
) -> None:
    upload(bucket, shards)
    reader = open_reader(StoredObject(bucket.address("shards/01.tar")), ReaderOptions())
    pieces = list(reader.pieces(8))
    before = list(reader.read(pieces[0]))
    bucket.put("shards/01.tar", write_shard(tmp_path / "other.tar", range(100, 120)).read_bytes())
    assert len({row.image() for row in before if isinstance(row, Record)}) == 8  # read in passing
    with pytest.raises(CorpusError) as caught:
        list(reader.read(pieces[1]))
    assert caught.value.code == "source_changed"
    assert [piece.fingerprint for piece in reader.pieces(8)] != [piece.fingerprint for piece in pieces]


def test_a_tar_is_replaced_while_it_is_read(
    bucket: Any, shards: list[Path], write_shard: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(stored, "_BLOCKS", 1)
    upload(bucket, shards)
    reader = open_reader(StoredObject(bucket.address("shards/00.tar")), ReaderOptions())
    piece = next(reader.pieces(100))
    rows = reader.read(piece)
    next(rows)
    bucket.put("shards/00.tar", write_shard(tmp_path / "other.tar", range(100, 120)).read_bytes())
    with pytest.raises(CorpusError) as caught:
        list(rows)
    assert caught.value.code == "source_changed"


def test_a_tar_is_read_from_front_to_back_once(
    bucket: Any, tmp_path: Path, write_shard: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs.core

    monkeypatch.setattr(stored, "_BLOCK_BYTES", 16 << 10)
    size = write_shard(tmp_path / "one.tar", range(100)).stat().st_size
    upload(bucket, [tmp_path / "one.tar"])
    asked: Counter[int] = Counter()
    fetch = s3fs.core.S3File._fetch_range

    def counting(self: Any, start: int, end: int) -> bytes:
        asked[start] += end - start
        return bytes(fetch(self, start, end))

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", counting)
    reader = open_reader(StoredObject(bucket.address("shards/one.tar")), ReaderOptions())
    pieces = list(reader.pieces(1000))
    assert asked.total() <= size + (32 << 10)
    asked.clear()
    rows = list(reader.read(pieces[0]))
    assert len(rows) == 100
    assert asked.total() <= size + (32 << 10)
    assert max(asked.values()) <= 2 * (16 << 10)


@pytest.mark.parametrize("kind", ["tar", "parquet", "csv"])
def test_a_reader_is_sent_to_another_machine(kind: str, bucket: Any, shards: list[Path], tmp_path: Path) -> None:
    if kind == "parquet":
        pq.write_table(pa.table({"image": [b"a", b"b"], "caption": ["x", "y"]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("path,caption\na.jpg,x\nb.jpg,y\n")
    upload(bucket, [shards[0] if kind == "tar" else tmp_path / f"t.{kind}"])
    name = "00.tar" if kind == "tar" else f"t.{kind}"
    reader = open_reader(StoredObject(bucket.address(f"shards/{name}")), ReaderOptions())
    sent, pieces = pickle.loads(pickle.dumps((reader, list(reader.pieces(100)))))
    rows = list(sent.read(pieces[0]))
    assert [row.key for row in rows] == [row.key for row in reader.read(pieces[0])]


def test_a_tar_that_is_cut_short_is_refused(bucket: Any, shards: list[Path], run: Run) -> None:
    bucket.put("shards/cut.tar", shards[0].read_bytes()[:-5000])
    with pytest.raises(CorpusError) as caught:
        run(bucket.address("shards/cut.tar"), allow_remote=("s3",))
    assert caught.value.code == "source_truncated"


@pytest.mark.parametrize(
    ("corpus", "settings", "code", "told"),
    [
        ("shards/*.tar", {}, "corpus_scheme_refused", "--allow-remote s3"),
        ("nothing/*.tar", {"allow_remote": ("s3",)}, "corpus_not_found", "No object"),
        ("nothing.tar", {"allow_remote": ("s3",)}, "corpus_not_found", "No object"),
        ("shards", {"allow_remote": ("s3",)}, "corpus_format_unknown", "folder of 3 objects"),
        ("shards/00.zip", {"allow_remote": ("s3",)}, "corpus_format_unknown", "Zip archives"),
        ("shards/00.arrow", {"allow_remote": ("s3",)}, "corpus_format_unknown", "Copy it here first"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    corpus: str, settings: dict[str, Any], code: str, told: str, bucket: Any, shards: list[Path], run: Run
) -> None:
    upload(bucket, shards)
    if "00." in corpus:
        bucket.put(corpus, b"anything")
    with pytest.raises(CorpusError, match=told) as caught:
        run(bucket.address(corpus), **settings)
    assert caught.value.code == code


def test_a_list_file_may_name_addresses(bucket: Any, shards: list[Path], run: Run, tmp_path: Path) -> None:
    upload(bucket, shards[:1])
    listed = tmp_path / "list.txt"
    listed.write_text(f"# two of a kind\n{bucket.address('shards/00.tar')}\n{shards[1]}\n")
    assert run(listed, allow_remote=("s3",)).added == 40
    with pytest.raises(CorpusError) as caught:
        run(listed)
    assert caught.value.code == "corpus_scheme_refused"


def test_a_damaged_parquet_file_is_told(bucket: Any, run: Run) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [b"x"], "caption": ["y"]}), buffer)
    bucket.put("t/cut.parquet", buffer.getvalue()[:-9])
    with pytest.raises(CorpusError) as caught:
        run(bucket.address("t/cut.parquet"), allow_remote=("s3",))
    assert caught.value.code == "table_invalid"
