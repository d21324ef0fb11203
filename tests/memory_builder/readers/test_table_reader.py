"""The table reader against csv and json read the plain way, and against what tables can hold."""

import csv
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from memory_builder import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.records import Record, Rejected, Row

CAPTIONS = ["plain", 'with "quotes" and, commas', "two\nlines", "größer", "", "tab\there"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(len(CAPTIONS)):
        (tmp_path / f"images/{number}.jpg").write_bytes(b"image %d" % number)
    return tmp_path


def rows_of(captions: list[str]) -> list[dict[str, str]]:
    return [{"id": f"k{n}", "path": f"images/{n}.jpg", "caption": caption} for n, caption in enumerate(captions)]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_all(path: Path, unit_rows: int = 1000, **options: Any) -> list[Row]:
    reader = open_reader(path, ReaderOptions(**options))
    return [row for piece in list(reader.pieces(unit_rows)) for row in reader.read(piece)]


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.key, row.caption if isinstance(row, Record) else f"!{row.code}") for row in rows]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
@pytest.mark.parametrize("unit_rows", [1, 4, 1000])
def test_all_three_forms_give_the_same_rows(root: Path, name: str, unit_rows: int) -> None:
    rows = read_all(write_table(root / name, rows_of(CAPTIONS)), unit_rows)
    assert told(rows) == [(f"t/images/{number}", caption) for number, caption in enumerate(CAPTIONS)]
    assert [row.image() for row in rows if isinstance(row, Record)] == [b"image %d" % n for n in range(6)]
    assert rows[4].source == f"{name} row 5"


def test_pieces(root: Path) -> None:
    reader = open_reader(write_table(root / "t.csv", rows_of(CAPTIONS)), ReaderOptions())
    assert [piece.rows for piece in reader.pieces(4)] == [4, 2]
    assert [piece.rows for piece in reader.pieces(3)] == [3, 3]


def test_fingerprint_follows_the_rows_and_images_of_its_range_only(root: Path) -> None:
    def prints(captions: list[str]) -> list[str]:
        path = write_table(root / "t.csv", rows_of(captions))
        return [piece.fingerprint for piece in open_reader(path, ReaderOptions()).pieces(2)]

    before = prints(CAPTIONS[:5])
    assert prints(CAPTIONS[:5]) == before  # the table's own time of change does not count
    assert prints(CAPTIONS[:6])[:2] == before[:2]  # rows were added behind
    assert prints(["other", *CAPTIONS[1:5]])[1:] == before[1:]
    os.utime(root / "images/2.jpg", ns=(1, 1))
    after = prints(CAPTIONS[:5])
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_which_column_is_which_is_part_of_what_a_row_is(root: Path) -> None:
    """A header that was mended after a build was stopped: what it had read of the wrong column stayed."""
    rows = "images/1.jpg,SKU-1,a red bird\n"
    options = []
    for header in ("path,caption,sku", "path,sku,caption"):
        for name in ("t.csv", "t.tsv"):
            mark = "," if name == "t.csv" else "\t"
            (root / name).write_text((header + "\n" + rows).replace(",", mark))
            options.append(open_reader(root / name, ReaderOptions()).options())
    assert options[0] == options[1] != options[2] == options[3]
    assert "header" not in open_reader(write_table(root / "t.jsonl", rows_of(CAPTIONS)), ReaderOptions()).options()


def test_captions_are_without_the_space_around_them(root: Path) -> None:
    path = write_table(root / "t.csv", rows_of(["  a bird \n", "a duck"]))
    assert [caption for _, caption in told(read_all(path))] == ["a bird", "a duck"]


@pytest.mark.parametrize(
    ("header", "image", "caption"),
    [
        ("path,caption", "path", "caption"),
        ("caption,FILE,text", "FILE", "caption"),
        ("title, Image ", " Image ", "title"),
        ("filename,image,title,text", "image", "text"),
        ("file_name,text", "file_name", "text"),
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path: Path, header: str, image: str, caption: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n{','.join('x' * len(header.split(',')))}\n")
    options = open_reader(tmp_path / "t.csv", ReaderOptions()).options()
    assert (options["image_column"], options["caption_column"]) == (image, caption)


def test_columns_by_option(root: Path) -> None:
    rows = [{"id": f"k{n}", "where": f"images/{n}.jpg", "words": "x", "caption": "no"} for n in range(2)]
    path = write_table(root / "t.tsv", rows)
    read = read_all(path, image_columns=("where",), caption_column="words", key_column="id")
    assert told(read) == [("t/k0", "x"), ("t/k1", "x")]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a,b\n", {}, "path, image, file, filename"),
        ("path,b\n", {}, "--caption-column"),
        ("path,caption\n", {"caption_column": "words"}, "no column 'words'"),
        ("path,caption\n", {"key_column": "id"}, "no column 'id'"),
        ("", {}, "Its columns: none"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, text: str, options: dict[str, str], expected: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CorpusError, match=expected) as caught:
        open_reader(tmp_path / "t.csv", ReaderOptions(**options))
    assert caught.value.code == "table_columns"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'id;path;caption\nk;images/0.jpg;"a mug; blue, large"\n'),
        ("t.csv", '"id, own";path;"caption"\nk;images/0.jpg;a mug; blue, large\n'.replace("mug; b", "mug, b")),
        ("t.csv", "id\tpath\tcaption\nk\timages/0.jpg\ta mug; blue, large\n"),
        ("t.tsv", "id\tpath\tcaption\nk\timages/0.jpg\ta mug; blue, large\n"),
        ("t.tsv", "id;path;caption\nk;images/0.jpg;a mug, blue, large\n"),
        ("t.csv", '"id;a;b;c;d",path,caption\nk,images/0.jpg,"a mug; blue, large"\n'),
        ("t.tsv", "id, a, b, c\tpath\tcaption\nk\timages/0.jpg\ta mug; blue, large\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_is_between_fields_is_told_by_the_header(root: Path, name: str, text: str, mark: str) -> None:
    (root / name).write_text(mark + text, encoding="utf-8")
    assert [caption.replace(";", ",") for _, caption in told(read_all(root / name))] == ["a mug, blue, large"]


@pytest.mark.parametrize("first", ["sep=;\r\n", '\ufeff"sep=;"\n', "SEP=;\n"])
def test_the_line_by_which_excel_knows_the_delimiter_is_no_header(root: Path, first: str) -> None:
    (root / "t.csv").write_text(f"{first}id;a, b, c;path;caption\nk;x;images/0.jpg;a mug\n", encoding="utf-8")
    assert [caption for _, caption in told(read_all(root / "t.csv"))] == ["a mug"]


def test_a_table_of_semicolons_is_another_than_one_of_commas(tmp_path: Path) -> None:
    options = []
    for text in ("path,caption\n", "path;caption\n"):
        (tmp_path / "t.csv").write_text(text)
        options.append(open_reader(tmp_path / "t.csv", ReaderOptions()).options())
    assert options[1] == {**options[0], "delimiter": ";"}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_that_is_not_utf8_is_refused_with_what_to_do(root: Path, name: str, encoding: str) -> None:
    text = write_table(root / name, [{"path": f"Läden/{n}.jpg", "caption": "größer"} for n in range(2)]).read_text()
    (root / name).write_text(text.encode().decode("unicode_escape") if name == "t.jsonl" else text, encoding=encoding)
    called = {"latin-1": "WINDOWS-1252", "utf-16": "UTF-16"}[encoding]
    with pytest.raises(CorpusError, match=rf"is not UTF-8 \(line \d\).*Excel.*iconv -f {called} ") as caught:
        open_reader(root / name, ReaderOptions())
    assert caught.value.code == "table_invalid"


def test_empty_columns_behind_a_table_have_no_names(root: Path) -> None:
    """Excel writes them where a cell beside the table was ever touched."""
    (root / "t.csv").write_text("path,caption,,\nimages/0.jpg,c,,\nimages/1.jpg,d,,note\n")
    assert [caption for _, caption in told(read_all(root / "t.csv"))] == ["c", "d"]
    (root / "t.csv").write_text("path,caption,note,note\nimages/0.jpg,c,,\n")
    with pytest.raises(CorpusError, match="a column twice"):
        read_all(root / "t.csv")


def test_a_column_that_the_first_object_lacks_is_found_in_others(root: Path) -> None:
    """Spark and others leave out what is null."""
    rows = [{"path": "images/0.jpg"}, {"path": "images/1.jpg", "caption": "c", "sku": "k1"}]
    path = write_table(root / "t.jsonl", rows)
    assert told(read_all(path)) == [("t/images/0", "!missing_caption"), ("t/images/1", "c")]
    assert [caption for _, caption in told(read_all(path, key_column="sku"))] == ["!key_invalid", "c"]
    with pytest.raises(CorpusError, match=r"no column 'id'\. Its columns: path, caption, sku"):
        read_all(path, key_column="id")
    # what the first object has goes before what others have, as it did
    path = write_table(root / "t.jsonl", [{"image": "images/0.jpg", "caption": "c"}, {"path": "x", "caption": "d"}])
    assert open_reader(path, ReaderOptions()).options()["image_column"] == "image"


def test_one_row_that_is_not_utf8_costs_that_row_alone(root: Path) -> None:
    lines = ["path,caption", "images/0.jpg,plain", "images/1.jpg,gr\xf6\xdfer", "images/2.jpg,plain"]
    (root / "t.csv").write_bytes("\n".join(lines).encode("latin-1"))
    assert len(read_all(root / "t.csv")) == 3
    lines += [f"images/3.jpg,{word}" for word in ("größer", "grün")]
    data = [line.encode("latin-1" if number == 2 else "utf-8") for number, line in enumerate([*lines, lines[2]])]
    (root / "t.csv").write_bytes(b"\n".join(data))
    assert len(read_all(root / "t.csv")) == 6
    few = ["images/0.jpg,it\x92s" if number in (7, 90) else "images/0.jpg,plain" for number in range(100)]
    (root / "t.csv").write_bytes("\n".join([lines[0], *few]).encode("latin-1"))
    assert len(read_all(root / "t.csv")) == 100
    objects = [json.dumps({"path": "images/0.jpg", "caption": "größer"}, ensure_ascii=False)] * 6
    (root / "t.jsonl").write_bytes(objects[0].encode("latin-1") + b"\n" + "\n".join(objects[1:]).encode())
    assert len(read_all(root / "t.jsonl")) == 6


def test_B04_paths_never_lead_out_of_the_folder(root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "ok.jpg").write_bytes(b"ok")
    (inner / "link.jpg").symlink_to(root / "images/0.jpg")
    (inner / "within.jpg").symlink_to("ok.jpg")
    (inner / "up").symlink_to(root)
    paths = ["../images/0.jpg", str(root / "images/0.jpg"), str(inner / "ok.jpg"), "link.jpg", "up/images/0.jpg"]
    paths += ["./ok.jpg", "x/../within.jpg", "../inner/ok.jpg"]
    rows = read_all(write_table(inner / "t.jsonl", [{"path": path, "caption": "c"} for path in paths]))
    outcomes = [row.image().decode() if isinstance(row, Record) else row.code for row in rows]
    assert outcomes == ["path_outside"] * 5 + ["ok", "ok", "path_outside"]
    assert [row.key for row in rows[5:7]] == ["t/ok", "t/within"]


def test_paths_as_windows_writes_them_are_told_apart_from_images_that_are_not_there(root: Path) -> None:
    (root / "t.csv").write_text("path,caption\nimages\\0.jpg,c\nimages/9.jpg,c\n")
    rejected = []
    for row in read_all(root / "t.csv"):
        assert isinstance(row, Rejected)
        rejected.append((row.code, "backslashes" in row.detail))
    assert rejected == [("missing_image", True), ("missing_image", False)]


def test_names_in_another_form_of_unicode_are_told_apart_from_images_that_are_not_there(root: Path) -> None:
    for form in ("NFC", "NFD"):
        (root / f"{unicodedata.normalize(form, 'café')} {form}.jpg").write_bytes(b"image")
    (root.parent / unicodedata.normalize("NFD", "né.jpg")).write_bytes(b"out of the folder")
    paths = [unicodedata.normalize(form, f"café {other}.jpg") for form, other in (("NFC", "NFD"), ("NFD", "NFC"))]
    rows = read_all(
        write_table(root / "t.jsonl", [{"path": p, "caption": "c"} for p in (*paths, "thé.jpg", "../né.jpg")])
    )
    told = [(row.code, "another form of Unicode" in row.detail) for row in rows if isinstance(row, Rejected)]
    assert told == [*[("missing_image", True)] * 2, ("missing_image", False), ("path_outside", False)]


def test_urls_are_told_apart_from_images_that_are_not_there(root: Path) -> None:
    paths = ["https://birds.example/0.jpg", "s3://birds/0.jpg", "https://birds.example/" + 300 * "0", "images/9.jpg"]
    rows = read_all(write_table(root / "t.jsonl", [{"path": path, "caption": "c"} for path in paths]))
    told = [(row.code, "URLs are not fetched" in row.detail) for row in rows if isinstance(row, Rejected)]
    assert told == [*[("missing_image", True)] * 3, ("missing_image", False)]


def test_B10_missing_and_odd_values(root: Path) -> None:
    (root / "folder").mkdir()
    values: list[Any] = [
        {"path": "images/0.jpg"},
        {"path": "images/0.jpg", "caption": None},
        {"caption": "c"},
        {"path": "", "caption": "c"},
        {"path": "images/9.jpg", "caption": "c"},
        {"path": "images/0.jpg/x", "caption": "c"},
        {"path": "x" * 5000, "caption": "c"},
        {"path": "a\0b", "caption": "c"},
        {"path": "\ud800", "caption": "c"},
        {"path": 5, "caption": "c"},
        {"path": "images/0.jpg", "caption": ["c"]},
        [1],
    ]
    rows = read_all(write_table(root / "t.jsonl", [{"path": "images/1.jpg", "caption": "c"}, *values]))
    assert [code for _, code in told(rows)[1:]] == [
        "!missing_caption",
        "!missing_caption",
        *["!missing_image"] * 7,
        "!row_invalid",
        "!row_invalid",
        "!row_invalid",
    ]
    assert rows[3].key == "t/row 4"
    for row in rows:
        (row.key + row.source).encode()


def test_rows_that_cannot_be_parsed_cost_themselves_only(root: Path) -> None:
    lines = [
        "path,caption",
        "images/0.jpg,c",
        "images/1.jpg",
        "images/1.jpg,c,d",
        "",
        'images/1.jpg,"c"d',
        "images/2.jpg,e",
    ]
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    outcomes = [code for _, code in told(read_all(root / "t.csv"))]
    assert outcomes == ["c", "!row_invalid", "!row_invalid", "!row_invalid", "e"]
    (root / "t.jsonl").write_text('{"path": "images/0.jpg", "caption": "c"}\n{"path"\n\n' + '{"a":' * 50_000 + "\n")
    assert [code for _, code in told(read_all(root / "t.jsonl"))] == ["c", "!row_invalid", "!row_invalid"]


def test_a_quote_that_is_never_closed_costs_its_own_line_only(root: Path) -> None:
    rows = [f"images/0.jpg,number {number}" for number in range(2000)]
    rows[500] = 'images/1.jpg,"5 inch'
    expected = ["!row_invalid" if number == 500 else f"number {number}" for number in range(2000)]
    (root / "t.csv").write_text("\r\n".join(["path,caption", *rows, ""]))
    assert [caption for _, caption in told(read_all(root / "t.csv", 300))] == expected

    # the next quote does not end it, and a field of several lines behind it is read as one
    (root / "t.csv").write_text('path,caption\nimages/0.jpg,"5 inch\nimages/1.jpg,c\nimages/2.jpg,"two\nlines"\n')
    assert [caption for _, caption in told(read_all(root / "t.csv"))] == ["!row_invalid", "c", "two\nlines"]


def test_B13_bytes_that_are_not_utf8_and_a_byte_order_mark(root: Path) -> None:
    (root / "t.csv").write_bytes(b"\xef\xbb\xbfpath,caption\nimages/0.jpg,\xff\nimages/1.jpg,\xef\xbb\xbfx\n")
    assert [caption for _, caption in told(read_all(root / "t.csv"))] == ["\udcff", "\ufeffx"]
    (root / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"path": "images/0.jpg", "caption": "c"}\n')
    assert told(read_all(root / "t.jsonl")) == [("t/images/0", "c")]


def test_B13_a_line_without_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "t.jsonl").open("wb") as file:
        file.write(b'{"path": "a", "caption": "b"}\n')
        file.truncate(1 << 30)
    with pytest.raises(CorpusError, match="a line of more than") as caught:
        read_all(tmp_path / "t.jsonl")
    assert caught.value.code == "table_invalid"


def test_B18_links_and_fifos_as_images(root: Path) -> None:
    os.mkfifo(root / "images/fifo.jpg")
    paths = ["images/fifo.jpg", "images"]
    rows = read_all(write_table(root / "t.jsonl", [{"path": path, "caption": "c"} for path in paths]))
    for row in rows:
        with pytest.raises(Exception, match="member_type"):
            row.image()  # type: ignore[union-attr]


def test_keys(root: Path) -> None:
    ids: list[Any] = ["a", 7, None, True, "", "x" * 2000]
    rows = [{"path": "images/0.jpg", "caption": "c", "id": value} for value in ids]
    read = read_all(write_table(root / "t.jsonl", rows), key_column="id")
    assert [told([row])[0] for row in read] == [
        ("t/a", "c"),
        ("t/7", "c"),
        ("t/row 3", "!key_invalid"),
        ("t/row 4", "!key_invalid"),
        ("t/", "!key_invalid"),
        ("t/row 6", "!key_invalid"),
    ]
    images = write_table(
        root / "t.jsonl", [{"path": "/9j/4AAQ" * 1000, "caption": "images as text, of other programs"}]
    )
    assert told(read_all(images)) == [("t/row 1", "!path_outside")], "no message or ledger has the whole of it"


def test_X10_a_table_that_changes_after_the_plan(root: Path) -> None:
    path = write_table(root / "t.csv", rows_of(CAPTIONS))
    reader = open_reader(path, ReaderOptions())
    pieces = list(reader.pieces(2))
    write_table(path, rows_of(CAPTIONS[::-1]))
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorpusError) as caught:
        list(reader.read(pieces[1]))
    assert caught.value.code == "source_changed"


def test_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,caption\n\n")
    with pytest.raises(CorpusError) as caught:
        read_all(tmp_path / "t.csv")
    assert caught.value.code == "source_empty"
