"""Captions that are made of columns: what is filled in, whose turn it is, what a row without a value is, and what is no
template."""

import csv
import io
import json
import math
import string
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_builder import BuildConfig, ConfigError, CorpusError
from memory_builder.caption_template import CaptionTemplate
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.records import Record, RowRejected
from memory_builder.template_turns import CaptionTemplates

CARS = [
    {"path": "0.jpg", "title": "Fiesta", "brand": "Ford", "colour": "red", "year": 2015},
    {"path": "1.jpg", "title": "Panda", "brand": "Fiat", "colour": "blue", "year": 1983},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(file.getvalue())
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer_:
            writer_.write_table(table)
    return path


def captions(path: Path, *templates: str, **options: Any) -> list[str]:
    reader = open_reader(path, ReaderOptions(caption_templates=CaptionTemplates.parse(templates), **options))
    rows = [row for piece in reader.pieces(100) for row in reader.read(piece)]
    return [row.caption if isinstance(row, Record) else f"!{row.code}" for row in rows]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"image %d" % number)
    return tmp_path


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.arrow"])
def test_columns_are_filled_in(root: Path, name: str) -> None:
    path = write(root / name, CARS)
    assert captions(path, "a photo of a {brand} {}, {colour}, {{{year}}}.") == [
        "a photo of a Ford Fiesta, red, {2015}.",
        "a photo of a Fiat Panda, blue, {1983}.",
    ]
    assert captions(path, "{} of {}", caption_column="brand") == ["Ford of Ford", "Fiat of Fiat"]
    untitled = write(root / f"u-{name}", [{"path": row["path"], "brand": row["brand"]} for row in CARS])
    assert captions(untitled, "a {brand}") == ["a Ford", "a Fiat"]  # nothing asks for a caption column


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.arrow"])
def test_templates_take_turns_by_the_pairs_keys(root: Path, name: str) -> None:
    rows = [{"path": f"{n % 20}.jpg", "sku": f"s{n:04}", "brand": "Ford"} for n in range(600)]
    templates = ("a {brand}", "the {brand}", "our {brand}")
    made = captions(write(root / name, rows), *templates, key_column="sku")
    assert set(Counter(made)) == {"a Ford", "the Ford", "our Ford"}
    assert min(Counter(made).values()) > 160, Counter(made)
    for step in (2, 3):  # keys that count in steps of the number of templates have all of them, too
        assert len(set(made[::step])) == 3
    fewer = captions(write(root / name, rows[::7]), *templates, key_column="sku")
    assert fewer == made[::7], "a pair keeps its caption, whatever else is in the table"
    assert captions(root / name, *templates, "a {brand}", key_column="sku") == fewer, "a template given twice is one"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_the_images_of_a_row_have_turns_of_their_own(root: Path, name: str) -> None:
    rows = [{"sku": f"s{n}", "front": f"{n}.jpg", "back": f"{n}.jpg", "brand": "Ford"} for n in range(20)]
    path = write(root / name, rows)
    made = captions(path, "a {brand}", "the {brand}", key_column="sku", image_columns=("front", "back"))
    pairs = set(zip(made[::2], made[1::2], strict=True))
    assert pairs == {("a Ford", "the Ford"), ("the Ford", "a Ford"), ("a Ford", "a Ford"), ("the Ford", "the Ford")}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_row_takes_a_template_for_which_it_has_all(root: Path, name: str) -> None:
    rows = [
        {"path": f"{n}.jpg", "brand": "Ford" if n < 15 else "", "colour": "red" if n % 2 else ""} for n in range(20)
    ]
    path = write(root / name, rows)
    made = captions(path, "a {brand}", "a {colour} {brand}")
    assert made[0:15:2] == ["a Ford"] * 8  # no colour: no turn for what names one
    assert set(made[1:15:2]) == {"a Ford", "a red Ford"}
    assert made[15:] == ["!missing_caption"] * 5
    assert captions(path, "a {colour} {brand}")[:4] == ["!missing_caption", "a red Ford"] * 2


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_row_in_which_a_column_is_empty_is_rejected(root: Path, name: str) -> None:
    values = ["red", "", "  ", "nan", "NaN", "None", "NULL", "<NA>", " sky  blue \n", "nanny"]
    rows = [{"path": f"{n}.jpg", "colour": value} for n, value in enumerate(values)]
    expected = ["a red", *["!missing_caption"] * 7, "a sky  blue", "a nanny"]
    assert captions(write(root / name, rows), "a {colour}") == expected


def test_values_of_json_lines(root: Path) -> None:
    values = [7, -3.0, 2.5, 1e-7, None, math.nan, math.inf, True, ["red"], {"a": 1}]
    rows = [{"path": f"{n}.jpg", "year": value} for n, value in enumerate([*values, "no year"])]
    del rows[-1]["year"]
    expected = ["7", "-3", "2.5", "1e-07", *["!missing_caption"] * 3, *["!row_invalid"] * 3, "!missing_caption"]
    assert captions(write(root / "t.jsonl", rows), "{year}") == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, None], pa.int16()), ["1", "!missing_caption"]),
        (pa.array([2015.0, 0.1, None, math.nan], pa.float32()), ["2015", "0.1", *["!missing_caption"] * 2]),
        (pa.array([2015.0, 0.1, None, -math.inf], pa.float64()), ["2015", "0.1", *["!missing_caption"] * 2]),
        (pa.array([Decimal("19.90")], pa.decimal128(6, 2)), ["19.90"]),
        (pa.array(["red", None]).dictionary_encode(), ["red", "!missing_caption"]),
        (pa.array([None], pa.null()), ["!missing_caption"]),
        (pa.array([b"caf\xe9"], pa.binary()).view(pa.string()), ["caf\udce9"]),
    ],
)
def test_values_of_parquet(root: Path, values: pa.Array, expected: list[str]) -> None:
    images = [b"image"] * len(values)
    pq.write_table(pa.table({"image": images, "value": values}), root / "t.parquet", store_schema=True)
    assert captions(root / "t.parquet", "{value}") == expected


@pytest.mark.parametrize("kind", [pa.bool_(), pa.list_(pa.string()), pa.timestamp("s")])
def test_columns_of_other_kinds_are_refused(root: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"image": [b"i"], "value": pa.array([None], kind)}), root / "t.parquet")
    with pytest.raises(CorpusError, match=r"'value' holds .*, and captions are made of texts or numbers") as caught:
        captions(root / "t.parquet", "{value}")
    assert caught.value.code == "table_columns"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t.arrow"])
@pytest.mark.parametrize("field", ["make", "brand.upper", "brand[0]", "brand!r", "brand:>10", " brand", "0"])
def test_what_is_no_column_is_refused_with_those_that_are(root: Path, name: str, field: str) -> None:
    path = write(root / name, CARS)
    with pytest.raises(
        CorpusError, match=r"which --caption-template names.*path, title, brand, colour, year"
    ) as caught:
        captions(path, f"a {{{field}}}")
    assert caught.value.code == "table_columns"
    assert (field not in ("make", " brand", "0")) == ("no attributes" in caught.value.message)


def test_a_name_is_taken_as_it_is(root: Path) -> None:
    rows = [{"path": "0.jpg", "price:eur": "5", "a.b": "six", "c[0]": "{path}", "d": "{{x}}"}]
    for name in ("t.csv", "t.jsonl", "t.arrow"):
        assert captions(write(root / name, rows), "{price:eur} {a.b} {c[0]} {d}") == ["5 six {path} {{x}}"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a photo", "names no column"),
        ("", "names no column"),
        ("{{}}", "names no column"),
        ("a {brand", "the { at character 3 has no partner"),
        ("a brand}", "the } at character 8 has no partner"),
        ("a {{brand}", "the } at character 10 has no partner"),
        ("a {x{brand}}", "the { at character 3 has no partner"),
    ],
)
def test_what_is_no_template(tmp_path: Path, template: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        BuildConfig((str(tmp_path),), tmp_path / "memory", caption_templates=(template,))


def test_a_caption_column_that_the_template_does_without_is_refused(tmp_path: Path) -> None:
    def config(template: str) -> BuildConfig:
        return BuildConfig(("t.csv",), tmp_path, caption_column="title", caption_templates=(template,))

    with pytest.raises(ConfigError, match=r"does without it: write \{\} where"):
        config("a {brand}")
    config("a {}")
    config("a {title}")
    BuildConfig(("t.csv",), tmp_path, caption_column="title", caption_templates=("a {brand}", "a {}"))


NAMES = st.text(string.ascii_letters + " .[]!:'\"%$\\_é", min_size=1)


@given(st.lists(st.one_of(NAMES.map(lambda name: (name,)), st.text())), st.text(min_size=1))
def test_what_is_written_comes_out(parts: list[str | tuple[str]], value: str) -> None:
    """Against the plain way: literal parts as they are, and each name its value; no value is looked into."""
    text = "".join(
        f"{{{part[0]}}}" if isinstance(part, tuple) else part.replace("{", "{{").replace("}", "}}") for part in parts
    )
    names = [part[0] for part in parts if isinstance(part, tuple)]
    if not names:
        with pytest.raises(ConfigError):
            CaptionTemplate.parse(text)
        return
    template = CaptionTemplate.parse(text)
    assert template.names == tuple(dict.fromkeys(names))
    asked: list[str] = []

    def look_up(name: str) -> str:
        asked.append(name)
        return f"<{name}> {value}"

    expected = "".join(f"<{p[0]}> {value}".strip() if isinstance(p, tuple) else p for p in parts)
    assert template.fill(look_up) == expected
    assert asked == names


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
@example("TRUE")
@example("NaN")
def test_no_value_ever_reads_none_or_nan(value: object) -> None:
    try:
        filled = CaptionTemplate.parse("{a}").fill(lambda _name: value)
    except RowRejected as rejected:
        assert rejected.code in ("missing_caption", "row_invalid")
        return
    assert filled
    assert filled == filled.strip()
    assert filled.casefold() not in ("none", "nan", "null")
    if not isinstance(value, str):  # a text is what it says, a brand called TRUE among others
        assert filled.casefold() not in ("true", "false", "inf", "-inf", "[]")
    if isinstance(value, float):
        assert float(filled) == value


def test_the_template_is_part_of_what_a_row_is(root: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        path = write(root / name, CARS)
        plain = open_reader(path, ReaderOptions()).options()
        header = {"header": '["path", "title", "brand", "colour", "year"]'} if name == "t.csv" else {}
        assert plain == {"image_column": "path", "caption_column": "title", "key_column": "", **header}
        made = [
            open_reader(path, ReaderOptions(caption_templates=CaptionTemplates.parse(texts))).options()
            for texts in (["a {}"], ["a {title}"], ["a {brand}"], ["a {brand}", "a {}"], ["a {}", "a {brand}", "a {}"])
        ]
        assert made[0] == {**plain, "caption_template": "a {}"}
        assert [options["caption_column"] for options in made] == ["title", "", "", "title", "title"]
        assert made[3] == {**plain, "caption_templates": '["a {brand}", "a {}"]'}
        assert made[4] == {**plain, "caption_templates": '["a {}", "a {brand}"]'}, "each once"


def test_sources_without_columns_are_refused(tmp_path: Path) -> None:
    options = ReaderOptions(caption_templates=CaptionTemplates.parse(["a {}"]))
    (tmp_path / "photos").mkdir()
    (tmp_path / "t.tar").write_bytes(b"")
    for name, hint in (("photos", "--caption-from-folder"), ("t.tar", "the memory grows")):
        with pytest.raises(CorpusError, match=f"has no columns.*{hint}"):
            open_reader(tmp_path / name, options)
