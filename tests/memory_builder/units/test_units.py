"""Finished units on disk: read back as written, and never taken for finished when they are not whole."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from memory import ITEMS_SCHEMA, Rows
from memory_builder.encoding.mapper import MappedUnit
from memory_builder.records import Rejected
from memory_builder.units.store import UnitStore

FILES = ("image.f16.npy", "text.f16.npy", "items.arrow", "rejected.jsonl", "unit.json")


def make_unit(rows: int) -> MappedUnit:
    dice = np.random.default_rng(rows)
    items = {name: [f"{name} {number}" for number in range(rows)] for name in ITEMS_SCHEMA.names[:4]}
    items["thumbnail"] = [None if number % 2 else b"\xff\x00" for number in range(rows)]
    image, text = dice.normal(size=(2, rows, 8)).astype(np.float16)
    table = pa.table(items, schema=ITEMS_SCHEMA)
    return MappedUnit(Rows(image, text, table), (Rejected("kéy", "code", "detail\n", "source"),))


@pytest.mark.parametrize("rows", [0, 1, 20])
def test_a_unit_comes_back_as_it_was(tmp_path: Path, rows: int) -> None:
    unit = make_unit(rows)
    UnitStore(tmp_path).save("u1", unit)
    found = UnitStore(tmp_path).load("u1")
    assert found is not None
    assert np.array_equal(found.rows.image, unit.rows.image)
    assert np.array_equal(found.rows.text, unit.rows.text)
    assert found.rows.items.equals(unit.rows.items)
    assert found.rejected == unit.rejected


def test_the_same_unit_gives_the_same_bytes(tmp_path: Path) -> None:
    for root in (tmp_path / "a", tmp_path / "b"):
        UnitStore(root).save("u1", make_unit(20))
    for name in FILES:
        assert (tmp_path / "a/work/units/u1" / name).read_bytes() == (tmp_path / "b/work/units/u1" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["gone", "cut", "flipped", "emptied"])
def test_a_unit_that_is_not_whole_is_not_finished(tmp_path: Path, name: str, fault: str) -> None:
    store = UnitStore(tmp_path)
    store.save("u1", make_unit(20))
    path = tmp_path / "work/units/u1" / name
    data = path.read_bytes()
    match fault:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(data[:-1] if name != "unit.json" else data[:-3])
        case "flipped":
            path.write_bytes(data[:-10] + bytes([data[-10] ^ 1]) + data[-9:])
        case "emptied":
            path.write_bytes(b"")
    assert store.load("u1") is None
    store.save("u1", make_unit(20))
    assert store.load("u1") is not None


def test_a_worker_that_comes_late_leaves_the_finished_unit_alone(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    store.save_once("u1", make_unit(20))
    first = (tmp_path / "work/units/u1").stat().st_ino
    store.save_once("u1", make_unit(20))
    assert (tmp_path / "work/units/u1").stat().st_ino == first
    assert store.ids() == [one.name for one in (tmp_path / "work/units").iterdir()] == ["u1"]


def test_a_unit_under_another_name_is_not_that_unit(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    store.save("u1", make_unit(3))
    (tmp_path / "work/units/u1").rename(tmp_path / "work/units/u2")
    assert store.load("u2") is None


def test_remove_and_what_killed_builds_leave(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    for name in ("u1", "u2", "u3"):
        store.save(name, make_unit(3))
    store.remove(["u2", "never there"])
    assert store.ids() == ["u1", "u3"]
    assert "u1" in store
    assert "u2" not in store
    half = tmp_path / "work/units/.tmp-1-0123456789abcdef"
    half.mkdir()
    (half / "unit.json").write_text(json.dumps({}))
    store = UnitStore(tmp_path)
    assert half.exists(), "another worker may be writing it"
    store.sweep()
    assert store.ids() == ["u1", "u3"]
    assert not half.exists()
