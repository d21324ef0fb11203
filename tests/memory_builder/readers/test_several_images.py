"""Rows that hold several images, in columns or in lists: a pair each, whatever the units, and counted before they are
read."""

import hashlib
import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_builder import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.columns import parts
from memory_builder.records import Record, Row
from models.training.dataset.entities import by_folder

IMAGES = ("front", "back")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    for name in "abcdefgh":
        (tmp_path / f"i/{name}.jpg").write_bytes(name.encode())
    return tmp_path


def write_parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path, row_group_size=3)
    return path


def write_stream(path: Path, table: pa.Table) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def write_lines(path: Path, table: pa.Table) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


WRITERS: dict[str, Callable[[Path, pa.Table], Path]] = {
    "t.parquet": write_parquet,
    "t.arrow": write_stream,
    "t.jsonl": write_lines,
}


def read_all(path: Path, unit_rows: int = 1000, **options: Any) -> list[Row]:
    reader = open_reader(path, ReaderOptions(**options))
    rows: list[Row] = []
    for piece in list(reader.pieces(unit_rows)):
        read = list(reader.read(piece))
        assert len(read) == piece.rows, "what a piece was counted as is what it gives"
        assert 0 < piece.rows <= unit_rows
        rows += read
    return rows


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.key, row.image().decode() if isinstance(row, Record) else f"!{row.code}") for row in rows]


TWO_COLUMNS = [
    ("t/s0/front", "a"),
    ("t/s0/back", "b"),
    ("t/s1/back", "c"),  # one of them is no error
    ("t/row {2}", "!missing_image"),  # none of them is
    ("t/s3/front", "d"),
    ("t/s3/back", "!missing_image"),
]


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 1000])
def test_two_columns_of_a_csv(root: Path, unit_rows: int) -> None:
    lines = ["sku,front,back,title", "s0,i/a.jpg,i/b.jpg,x", "s1,,i/c.jpg,y", "s2,, ,z", "s3,i/d.jpg,i/none.jpg,z"]
    (root / "t.csv").write_text("\n".join(lines))
    rows = read_all(root / "t.csv", unit_rows, image_columns=IMAGES, key_column="sku")
    assert told(rows) == [(key.replace("{2}", "3"), image) for key, image in TWO_COLUMNS]
    sources = ["t.csv row 1, front", "t.csv row 1, back", "t.csv row 2, back", "t.csv row 3"]
    assert [row.source for row in rows[:4]] == sources
    assert [row.caption for row in rows[:2] if isinstance(row, Record)] == ["x", "x"]


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_two_columns_of_paths(root: Path, name: str, unit_rows: int) -> None:
    columns = {
        "sku": [f"s{n}" for n in range(4)],
        "front": ["i/a.jpg", None, "", "i/d.jpg"],
        "back": ["i/b.jpg", "i/c.jpg", None, "i/none.jpg"],
        "title": list("xyzz"),
    }
    path = WRITERS[name](root / name, pa.table(columns))
    rows = read_all(path, unit_rows, image_columns=IMAGES, key_column="sku")
    number = "3" if name == "t.jsonl" else "2"  # lines count from 1, as they always did
    assert told(rows) == [(key.replace("{2}", number), image) for key, image in TWO_COLUMNS]
    by_path = read_all(path, unit_rows, image_columns=IMAGES)
    assert [row.key for row in by_path[:3]] == ["t/i/a", "t/i/b", "t/i/c"]


LISTS = [["i/a.jpg", "i/b.jpg"], [], ["i/c.jpg", None, "", "i/d.jpg"], None, ["i/e.jpg"], [None]]
OF_LISTS = ["t/s0/0=a", "t/s0/1=b", "row!", "t/s2/0=c", "t/s2/3=d", "row!", "t/s4/0=e", "row!"]


def shown(rows: list[Row]) -> list[str]:
    return ["row!" if "row" in key else f"{key}={image}" for key, image in told(rows)]


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_lists_of_paths(root: Path, name: str, unit_rows: int, large: bool) -> None:
    kind = (pa.large_list if large else pa.list_)(pa.string())
    table = pa.table({"sku": [f"s{n}" for n in range(6)], "image": pa.array(LISTS, kind), "text": ["x"] * 6})
    path = WRITERS[name](root / name, table)
    assert shown(read_all(path, unit_rows, key_column="sku")) == OF_LISTS
    assert [row.code for row in read_all(path, unit_rows) if not isinstance(row, Record)] == ["missing_image"] * 3


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("kind", [pa.binary(), STRUCT])
@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_lists_of_images(root: Path, name: str, kind: pa.DataType, unit_rows: int) -> None:
    def image(path: str | None) -> Any:
        data = path[2].encode() if path else None
        return {"bytes": data, "path": path} if kind == STRUCT and data else data

    images = [cell and [image(path) for path in cell] for cell in LISTS]
    table = pa.table({"sku": range(6), "image": pa.array(images, pa.list_(kind)), "text": ["x"] * 6})
    path = WRITERS[name](root / name, table.slice(0, 6))
    numbered = [one.replace("/s", "/") for one in OF_LISTS]
    assert shown(read_all(path, unit_rows, key_column="sku")) == numbered
    assert shown(read_all(path, unit_rows)) == numbered  # by the number of the row


def test_several_columns_of_bytes(root: Path) -> None:
    table = pa.table({"a": [b"1", None, b"3"], "b/c": [b"4", b"5", None], "text": ["x"] * 3})
    for name in ("t.parquet", "t.arrow"):
        rows = read_all(WRITERS[name](root / name, table), 2, image_columns=("a", "b/c"))
        assert told(rows) == [("t/0/a", "1"), ("t/0/b-c", "4"), ("t/1/b-c", "5"), ("t/2/a", "3")]


def test_a_column_and_a_list_and_what_lies_in_it(root: Path) -> None:
    row = {
        "sku": "s",
        "main": "i/a.jpg",
        "more": ["i/b.jpg", ["i/c.jpg"], 5, math.nan, {"path": "i/d.jpg"}],
        "text": "x",
    }
    (root / "t.jsonl").write_text(json.dumps(row) + "\n")
    rows = read_all(root / "t.jsonl", image_columns=("main", "more"), key_column="sku")
    assert told(rows) == [
        ("t/s/main", "a"),
        ("t/s/more-0", "b"),
        *[(f"t/row 1/more-{position}", "!row_invalid") for position in (1, 2, 4)],
    ]
    alone = read_all(root / "t.jsonl", image_columns=("main",), key_column="sku")
    assert told(alone) == [("t/s", "a")]


def test_a_list_of_one_and_a_path_differ_by_their_key(root: Path) -> None:
    rows = [{"sku": "s", "path": "i/a.jpg", "text": "x"}, {"sku": "u", "path": ["i/a.jpg"], "text": "x"}]
    (root / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert told(read_all(root / "t.jsonl", key_column="sku")) == [("t/s", "a"), ("t/u/0", "a")]


@pytest.mark.parametrize("sku", ["", "x" * 1025])
def test_a_key_that_is_none_is_none_for_each_image(root: Path, sku: str) -> None:
    table = pa.table({"sku": [sku], "front": ["i/a.jpg"], "back": ["i/b.jpg"], "text": ["x"]})
    for name, write in WRITERS.items():
        rows = read_all(write(root / name, table), image_columns=IMAGES, key_column="sku")
        assert [code for _, code in told(rows)] == ["!key_invalid"] * 2


def test_a_products_images_are_one_entity_by_folder(root: Path) -> None:
    lines = ["sku,front,back,title", "A/1,i/a.jpg,i/b.jpg,x", "A/2,i/c.jpg,i/d.jpg,y"]
    (root / "t.csv").write_text("\n".join(lines))
    rows = read_all(root / "t.csv", image_columns=IMAGES, key_column="sku")
    front, back, other_front, other_back = by_folder([row.key for row in rows]).tolist()
    assert front == back != other_front == other_back


def test_columns_that_cannot_be_meant(root: Path) -> None:
    mixed = pa.table(
        {"a": ["i/a.jpg"], "b": [b"image"], "a/b": ["x"], "a-b": ["x"], "": ["x"], "n": [1], "l": [[1]], "text": ["x"]}
    )
    path = write_parquet(root / "t.parquet", mixed)
    for columns, expected in (
        (("a", "b"), "some of the columns of images hold paths"),
        (("a/b", "a-b"), "would both be called 'a-b'"),
        (("", "a-b"), "has no name, and keys are made of it"),
        (("a", "c"), "no column 'c'.*Its columns: a, b"),
        (("a", "n"), "'n' holds int64.*lists of these"),
        (("l",), "'l' holds list.*lists of these"),
    ):
        with pytest.raises(CorpusError, match=expected) as caught:
            open_reader(path, ReaderOptions(image_columns=columns))
        assert caught.value.code == "table_columns"


def test_one_column_is_what_it_always_was(root: Path) -> None:
    """Options and fingerprints as releases before this one made them: a memory of theirs goes on."""
    (root / "t.csv").write_text("path,caption\ni/a.jpg,x\n,y\ni/none.jpg,z\n")
    table = pa.table({"path": ["i/a.jpg", None, "i/none.jpg"], "caption": ["x", "y", "z"]})
    write_parquet(root / "t.parquet", table)
    for path in (root / "i/a.jpg", root / "t.parquet"):
        os.utime(path, ns=(1, 1))
    size = (root / "t.parquet").stat().st_size
    for name in ("t.csv", "t.parquet"):
        readers = [open_reader(root / name, ReaderOptions(image_columns=columns)) for columns in ((), ("path",))]
        for reader in readers:
            earlier = {"image_column": "path", "caption_column": "caption", "key_column": ""}
            header = {"header": '["path", "caption"]'} if name == "t.csv" else {}  # of a CSV it is in no row
            assert reader.options() == earlier | header
        first, second = ([piece.fingerprint for piece in reader.pieces(2)] for reader in readers)
        assert first == second == [sha256(text) for text in EARLIER[name](size)]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


EARLIER: dict[str, Callable[[int], list[str]]] = {
    "t.csv": lambda _size: ["i/a.jpg,x\n[1, 1]\n,y\nnull\n", "i/none.jpg,z\nnull\n"],
    "t.parquet": lambda size: [f"[0, 2, [{size}, 1], [[1, 1], null]]", f"[2, 3, [{size}, 1], [null]]"],
}


def test_a_list_that_grew_is_another_unit_and_the_others_stay(root: Path) -> None:
    def prints(*lists: list[str]) -> list[str]:
        text = "".join(json.dumps({"path": paths, "text": "x"}) + "\n" for paths in lists)
        (root / "t.jsonl").write_text(text)
        return [piece.fingerprint for piece in open_reader(root / "t.jsonl", ReaderOptions()).pieces(2)]

    before = prints(["i/a.jpg", "i/b.jpg"], ["i/c.jpg", "i/d.jpg"], ["i/e.jpg"])
    after = prints(["i/a.jpg", "i/b.jpg"], ["i/c.jpg", "i/d.jpg"], ["i/e.jpg", "i/f.jpg"])
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]
    (root / "i/d.jpg").write_bytes(b"another image")
    again = [piece.fingerprint for piece in open_reader(root / "t.jsonl", ReaderOptions()).pieces(2)]
    assert [old == new for old, new in zip(after, again, strict=True)] == [True, False, True]


def test_units_that_part_a_row_differ(root: Path) -> None:
    """A long list is several units of the same line."""
    row = {"path": [f"i/{name}.jpg" for name in "abcdef"], "text": "x"}
    for name in ("t.jsonl", "t.parquet"):
        WRITERS[name](root / name, pa.Table.from_pylist([row]))
        reader = open_reader(root / name, ReaderOptions())
        pieces = list(reader.pieces(2))
        assert len({piece.fingerprint for piece in pieces}) == 3
        os.utime(root / "i/f.jpg", ns=(1, len(name)))
        again = [piece.fingerprint for piece in open_reader(root / name, ReaderOptions()).pieces(2)]
        assert again[2] != pieces[2].fingerprint, "what a unit in the middle of a row covers is known by its state"
        assert told([row for piece in pieces[::-1] for row in reader.read(piece)])[0] == ("t/i/e", "e")


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_units_are_read_in_any_order_and_by_any_process(root: Path, name: str) -> None:
    """More rows than a file is decoded at once, and than a group has."""
    images = [[f"{row}-{position}".encode() for position in range(row % 5)] for row in range(100)]
    table = pa.table({"image": pa.array(images, pa.list_(pa.binary())), "text": ["x"] * 100})
    if name == "t.parquet":
        pq.write_table(table, root / name, row_group_size=70)
    else:
        write_stream(root / name, table)
    pairs = [(f"t/{row}/{position}", f"{row}-{position}") for row in range(100) for position in range(row % 5)]
    for unit_rows in (1, 7, 64):
        reader = open_reader(root / name, ReaderOptions())
        pieces = list(reader.pieces(unit_rows))
        reader, pieces = pickle.loads(pickle.dumps((reader, pieces)))
        read = [told(list(reader.read(piece))) for piece in pieces[::-1]][::-1]
        assert [one for piece in read for one in piece if one[1] != "!missing_image"] == pairs
        assert [len(piece) for piece in read] == [piece.rows for piece in pieces]
        assert sum(piece.rows for piece in pieces) == len(pairs) + 20  # a row of no image is one


@given(st.lists(st.integers(1, 9)), st.integers(1, 7))
def test_parts_cover_all_pairs_in_order(counts: list[int], unit_rows: int) -> None:
    """Against the slow way: every pair by its row and position, `unit_rows` at a time."""
    pairs = [(row, position) for row, count in enumerate(counts) for position in range(count)]
    expected = [pairs[start : start + unit_rows] for start in range(0, len(pairs), unit_rows)]
    found = []
    for start, skip, stop, length in parts(counts, unit_rows):
        rows = [(row, position) for row in range(start, stop) for position in range(counts[row])]
        found.append(rows[skip : skip + length])
        assert rows[-1][0] == found[-1][-1][0], "no row is read for nothing"
    assert found == expected


CELL = st.one_of(
    st.none(), st.sampled_from(["", "i/a.jpg", "i/b.jpg"]), st.lists(st.sampled_from([None, "", "i/c.jpg", "i/d.jpg"]))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL), min_size=1), st.integers(1, 5))
def test_all_forms_give_the_same_pairs(root: Path, cells: list[tuple[Any, Any]], unit_rows: int) -> None:
    """JSON lines as they are; Parquet and Arrow, whose columns are of one kind, with a list for each cell."""
    rows = [{"sku": f"s{n}", "front": a, "back": b, "text": "x"} for n, (a, b) in enumerate(cells)]
    (root / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mixed = read_all(root / "t.jsonl", unit_rows, image_columns=IMAGES, key_column="sku")
    kind = pa.list_(pa.string())
    sides = [[cell if isinstance(cell, list | None) else [cell] for cell in side] for side in zip(*cells, strict=True)]
    columns = {name: pa.array(side, kind) for name, side in zip(IMAGES, sides, strict=True)}
    table = pa.table({"sku": [f"s{n}" for n in range(len(cells))], "text": ["x"] * len(cells), **columns})
    lists = [
        read_all(WRITERS[name](root / name, table), unit_rows, image_columns=IMAGES, key_column="sku")
        for name in WRITERS
    ]
    plain = [[image for _, image in told(rows)] for rows in (mixed, *lists)]
    assert plain[1:] == plain[:1] * 3
    assert told(lists[0])[:1] == told(lists[1])[:1]
    stored = [[row.key for row in rows if isinstance(row, Record)] for rows in lists]
    assert stored[1:] == stored[:1] * 2
    assert len(set(stored[0])) == len(stored[0])
