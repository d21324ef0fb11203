"""Parquet and Arrow files: the rows a plain reading gives, whatever the groups and batches; what is wrong is told."""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory_builder import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.records import Record, Row

ROWS = 50
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image_of(number: int) -> bytes:
    return b"image %d " % number * (1 + number % 5)


def table_of(form: str, rows: int = ROWS) -> pa.Table:
    """A table whose images are bytes, structs as Hugging Face has them, or paths."""
    numbers = range(rows)
    columns = {
        "bytes": pa.array([image_of(n) for n in numbers], pa.binary()),
        "struct": pa.array([{"bytes": image_of(n), "path": f"{n}.jpg"} for n in numbers], IMAGE),
        "path": pa.array([f"images/{n}.jpg" for n in numbers]),
    }
    return pa.table({"image": columns[form], "caption": [f"größer {n}" for n in numbers], "id": list(numbers)})


def write_parquet(path: Path, table: pa.Table, group_rows: int = 7) -> Path:
    pq.write_table(table, path, row_group_size=group_rows, write_page_checksum=True)
    return path


def write_stream(path: Path, table: pa.Table, batch_rows: int = 7) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def write_file(path: Path, table: pa.Table, batch_rows: int = 7) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def save_to_disk(folder: Path, table: pa.Table, shards: int = 3) -> Path:
    """As Hugging Face's datasets do it: streams, and two JSON files that name them."""
    folder.mkdir()
    names = [f"data-{n:05d}-of-{shards:05d}.arrow" for n in range(shards)]
    each = -(-table.num_rows // shards)
    for number, name in enumerate(names):
        write_stream(folder / name, table.slice(number * each, each))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder


WRITERS: dict[str, Callable[[Path, pa.Table, int], Path]] = {
    "t.parquet": write_parquet,
    "t.arrow": write_stream,
    "f.arrow": write_file,
}


def read_all(path: Path, unit_rows: int = 1000, **options: Any) -> list[Row]:
    reader = open_reader(path, ReaderOptions(**options))
    return [row for piece in list(reader.pieces(unit_rows)) for row in reader.read(piece)]


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.key, row.caption if isinstance(row, Record) else f"!{row.code}") for row in rows]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(ROWS):
        (tmp_path / f"images/{number}.jpg").write_bytes(image_of(number))
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
@pytest.mark.parametrize(("unit_rows", "group_rows"), [(1000, 50), (8, 50), (8, 3), (16, 7), (1, 50)])
def test_rows_do_not_depend_on_groups_and_units(
    root: Path, name: str, form: str, unit_rows: int, group_rows: int
) -> None:
    path = WRITERS[name](root / name, table_of(form), group_rows)
    rows = read_all(path, unit_rows)
    stem = path.stem
    keys = [f"{stem}/images/{n}" if form == "path" else f"{stem}/{n}" for n in range(ROWS)]
    assert told(rows) == [(key, f"größer {n}") for n, key in enumerate(keys)]
    assert [row.image() for row in rows if isinstance(row, Record)] == [image_of(n) for n in range(ROWS)]
    assert rows[3].source == f"{name} row 3"
    assert [row.key for row in read_all(path, key_column="id")] == [f"{stem}/{n}" for n in range(ROWS)]


@pytest.mark.parametrize("name", WRITERS)
def test_units_are_read_in_any_order_and_by_any_process(root: Path, name: str) -> None:
    reader = open_reader(WRITERS[name](root / name, table_of("struct"), 20), ReaderOptions())
    pieces = list(reader.pieces(8))
    assert sum(piece.rows for piece in pieces) == ROWS
    assert all(piece.rows <= 8 for piece in pieces)
    expected = [told(list(reader.read(piece))) for piece in pieces]
    assert [told(list(reader.read(piece))) for piece in pieces[::-1]] == expected[::-1]
    sides = [reader.read(pieces[0]), reader.read(pieces[1])]
    assert told([row for pair in zip(*sides, strict=True) for row in pair])[::2] == expected[0]
    elsewhere = pickle.loads(pickle.dumps((reader, pieces[2])))
    assert told(list(elsewhere[0].read(elsewhere[1]))) == expected[2]


@pytest.mark.parametrize("groups", [[5, 5, 5], [40], [3, 30, 3], [0, 8, 0], [8, 8]])
def test_row_groups_that_fit_are_kept_whole(root: Path, groups: list[int]) -> None:
    table = table_of("bytes", sum(groups))
    with pq.ParquetWriter(root / "t.parquet", table.schema) as writer:
        start = 0
        for rows in groups:
            writer.write_table(table.slice(start, rows))
            start += rows
    pieces = list(open_reader(root / "t.parquet", ReaderOptions()).pieces(8))
    assert sum(piece.rows for piece in pieces) == sum(groups)
    assert max(piece.rows for piece in pieces) <= 8
    if groups == [5, 5, 5]:
        assert [piece.rows for piece in pieces] == [5, 5, 5]


def test_a_saved_dataset(root: Path) -> None:
    rows = read_all(save_to_disk(root / "birds", table_of("struct")), 8)
    assert [row.key for row in rows[:2]] == ["birds/data-00000-of-00003/0", "birds/data-00000-of-00003/1"]
    assert [row.image() for row in rows if isinstance(row, Record)] == [image_of(n) for n in range(ROWS)]
    assert len({row.key for row in rows}) == ROWS


def test_a_dataset_of_splits_names_them(root: Path) -> None:
    (root / "birds").mkdir()
    (root / "birds/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(CorpusError, match="train, test") as caught:
        read_all(root / "birds")
    assert caught.value.code == "corpus_format_unknown"
    assert f"{root}/birds/train" in caught.value.message


def test_B10_nulls_and_absent_files_cost_their_rows_only(root: Path) -> None:
    images = [
        {"bytes": b"a", "path": None},
        None,
        {"bytes": None, "path": "images/1.jpg"},
        {"bytes": None, "path": None},
    ]
    images += [{"bytes": None, "path": path} for path in ("../out.jpg", "/etc/passwd", "images/none.jpg")]
    captions = ["a", "b", None, "d", "e", "f", "g"]
    table = pa.table({"image": pa.array(images, IMAGE), "caption": captions})
    codes = [code for _, code in told(read_all(write_parquet(root / "t.parquet", table)))]
    assert codes == ["a", "!missing_image", "!missing_caption", "!missing_image"] + ["!path_outside"] * 2 + [
        "!missing_image"
    ]


def test_B13_captions_that_are_not_utf8_reach_the_check_of_texts(root: Path) -> None:
    captions = pa.array([b"caf\xe9", b"good"], pa.binary()).view(pa.string())
    rows = read_all(write_parquet(root / "t.parquet", pa.table({"image": [b"a", b"b"], "caption": captions})))
    assert [row.caption for row in rows if isinstance(row, Record)] == ["caf\udce9", "good"]


@pytest.mark.parametrize("name", WRITERS)
def test_B15_B17_damaged_files_are_refused_or_give_their_rows(root: Path, name: str) -> None:
    path = WRITERS[name](root / name, table_of("bytes"), 7)
    good, outcomes = path.read_bytes(), Counter[str]()
    expected = told(read_all(path))
    cuts = [good[:size] for size in range(0, len(good), 61)]
    flips = [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in range(0, len(good), 61)]
    for data in cuts + flips:
        path.write_bytes(data)
        try:
            rows = read_all(path)
        except CorpusError as error:
            outcomes[error.code] += 1
        else:
            outcomes["same" if told(rows) == expected else f"{len(rows)} rows"] += 1
            assert len(rows) == ROWS, "never fewer rows in silence"
    assert set(outcomes) <= {"table_invalid", "table_columns", "source_truncated", "source_changed", "same", "50 rows"}
    assert outcomes["table_invalid"] + outcomes["source_truncated"] >= len(cuts) - 1, outcomes


def test_B17_a_stream_cut_between_batches_is_noticed(root: Path) -> None:
    path = write_stream(root / "t.arrow", table_of("bytes"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])  # as a writer leaves it that was killed
    with pytest.raises(CorpusError) as caught:
        read_all(path)
    assert caught.value.code == "source_truncated"


def test_B16_a_bomb_is_read_in_steps(root: Path) -> None:
    """2 MB of Parquet that stand for 3 GB of captions: read by a process that may have 2 GB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), ["x" * (1 << 20)])
    table = pa.table({"image": pa.array([b"i"] * 3000), "caption": text})
    pq.write_table(table, root / "bomb.parquet", store_schema=False)
    assert (root / "bomb.parquet").stat().st_size < 3 << 20
    program = (
        "import sys, resource; from memory_builder.readers import ReaderOptions, open_reader; from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30));"
        "reader = open_reader(Path(sys.argv[1]), ReaderOptions());"
        "rows = [row.code for piece in reader.pieces(1000) for row in reader.read(piece)];"
        "assert rows == ['text_too_long'] * 3000, rows[:3]"
    )
    done = subprocess.run([sys.executable, "-c", program, str(root / "bomb.parquet")], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        ({"caption": ["a"]}, {}, "none of the columns image.*--image-column"),
        ({"image": [b"a"]}, {}, "none of the columns caption.*--caption-column"),
        (
            {"photo": [b"a"]},
            {"key_column": "id"},
            "--image-column, and none of the columns caption.*and no column 'id'",
        ),
        ({"image": [b"a"], "caption": [["a", "b"]]}, {}, "'caption' holds list.*texts, one a row"),
        ({"image": [1.5], "caption": ["a"]}, {}, "'image' holds double.*bytes, paths, or structs"),
        ({"image": [b"a"], "caption": ["a"]}, {"caption_column": "words"}, "no column 'words'.*image, caption"),
        ({"image": [b"a"], "caption": ["a"], "id": [0.5]}, {"key_column": "id"}, "'id' holds double"),
    ],
)
@pytest.mark.parametrize("name", WRITERS)
def test_B17_columns_that_cannot_be_used(
    root: Path, name: str, columns: dict[str, list[Any]], options: dict[str, str], expected: str
) -> None:
    path = WRITERS[name](root / name, pa.table(columns), 7)
    with pytest.raises(CorpusError, match=expected) as caught:
        read_all(path, **options)
    assert caught.value.code == "table_columns"


@pytest.mark.parametrize("name", WRITERS)
def test_empty_files(root: Path, name: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_all(WRITERS[name](root / name, table_of("bytes").slice(0, 0), 7))
    assert caught.value.code == "source_empty"


@pytest.mark.parametrize("name", WRITERS)
def test_X10_a_file_that_changes_after_the_plan(root: Path, name: str) -> None:
    path = WRITERS[name](root / name, table_of("bytes"), 7)
    reader = open_reader(path, ReaderOptions())
    pieces = list(reader.pieces(10))
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorpusError) as caught:
        list(reader.read(pieces[1]))
    assert caught.value.code == "source_changed"
    path.unlink()
    with pytest.raises(CorpusError):
        list(reader.read(pieces[0]))


@pytest.mark.parametrize("name", WRITERS)
def test_fingerprint_follows_the_file_and_the_images_it_names(root: Path, name: str) -> None:
    path = WRITERS[name](root / name, table_of("path"), 7)
    pieces = partial(lambda: [p.fingerprint for p in open_reader(path, ReaderOptions()).pieces(10)])
    before = pieces()
    assert pieces() == before
    (root / "images/15.jpg").write_bytes(b"another image")
    after = pieces()
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1
