"""The report of near-duplicates against every pair compared, and what it says of copies, deletions and purges."""

import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory import KeyPatterns, remove_keys
from memory.searching.stored_rows import StoredRows
from memory_builder import BuildConfig, BuildResult, Origin, build_from_embeddings, open_embeddings
from memory_builder.reporting import near_duplicates

Build = Callable[..., BuildResult]
ROWS, D = 400, 64


def images(rows: int = ROWS) -> np.ndarray:
    """Rows in a cone, as CLIP's are; each tenth is nearly an earlier one, each twentieth a copy."""
    dice = np.random.default_rng(5)
    array = dice.normal(size=(rows, D)) + 4 * dice.normal(size=D) / np.sqrt(D)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    for row in range(10, rows, 10):
        noise = dice.normal(size=D)
        array[row] = array[row - 7] + (0 if row % 20 == 0 else 0.06 / np.sqrt(D)) * noise
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype("f4")


@pytest.fixture
def take_over(tmp_path: Path) -> Build:
    def run(name: str, array: np.ndarray, **settings: float) -> BuildResult:
        np.savez(tmp_path / f"{name}.npz", image=array, text=array[::-1])
        config = BuildConfig((str(tmp_path / f"{name}.npz"),), tmp_path / "memory", unit_rows=64, max_segment_rows=100)
        readers = open_embeddings(config)
        return build_from_embeddings(replace(config, **settings), readers, Origin.undeclared("some-clip", D))

    return run


def groups(tmp_path: Path) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for line in (tmp_path / "memory/work/near_duplicates.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["group"], []).append(row["key"])
    return found


@pytest.mark.parametrize("compared", [True, False])
def test_equals_the_slow_twin(
    tmp_path: Path, take_over: Build, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    monkeypatch.setattr(near_duplicates, "is_compared", lambda rows, added: compared)
    array = images()
    result = take_over("cache", array)
    similar = np.tril(array @ array.T, -1)
    expected = {row for row in range(ROWS) if similar[row].max() >= 0.985}
    assert expected == set(range(10, ROWS, 10))
    assert (result.near_duplicates, result.copies) == (len(expected), 19)
    listed = {key for group in groups(tmp_path).values() for key in group[1:]}
    assert {int(key.rpartition("/")[2]) for key in listed} == expected


@pytest.mark.parametrize("compared", [True, False])
def test_what_is_added_is_compared_with_what_is_there(
    tmp_path: Path, take_over: Build, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    monkeypatch.setattr(near_duplicates, "is_compared", lambda rows, added: compared)
    array = images()
    distinct = array[[row for row in range(ROWS) if row % 10]]
    assert take_over("first", distinct).near_duplicates == 0
    result = take_over("second", distinct[:30])
    assert (result.near_duplicates, result.copies) == (30, 30)
    assert groups(tmp_path)[4] == ["first/4", "second/4"]
    assert take_over("third", distinct[:30], near_duplicates=0).near_duplicates == 0


@pytest.mark.parametrize("compared", [True, False])
def test_a_copy_that_was_removed_does_not_hide_one_that_is_there(
    tmp_path: Path, take_over: Build, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    monkeypatch.setattr(near_duplicates, "is_compared", lambda rows, added: compared)
    array = images()[[row for row in range(ROWS) if row % 10]]
    array[31] = array[7]
    take_over("first", array)
    remove_keys(tmp_path / "memory", KeyPatterns(keys=["first/7", "first/8"]))
    result = take_over("second", array[[8, 31]])
    assert (result.near_duplicates, result.copies) == (1, 1), "first/8 was removed, and first/31 is there"
    assert groups(tmp_path)[0] == ["first/31", "second/1"]
    changed = array + 1e-3 * np.eye(len(array), D, dtype="f4")
    result = take_over("first", changed, upsert=True, restore_removed=True)
    assert [f"second/{row}" for row in (0, 1)] == [group[0] for group in groups(tmp_path).values()]
    assert result.near_duplicates == 3, "8, 31 and 7 are those of second, whatever they replace"


def test_a_large_memory_is_not_hashed_anew_for_a_few_rows() -> None:
    """Hashing takes every row that is there through 272 products and more, comparing through one for each added row."""
    million = 1_000_000
    assert near_duplicates.is_compared(100 * million, 10)
    assert near_duplicates.is_compared(10_000, 10_000)
    assert not near_duplicates.is_compared(million, 10_000)
    assert near_duplicates.used_ram(100 * million, 10) == 0


def test_the_ram_that_hashing_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", 256)  # else what one block takes hides what the rows take
    peaks = []
    for rows in (20_000, 60_000):
        array = images(rows).astype(np.float16)
        tracemalloc.start()
        near_duplicates._hashed(StoredRows([array]), np.ones(rows, dtype=bool), 0, 0.985)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert not near_duplicates.is_compared(60_000, 60_000)
    assert (peaks[1] - peaks[0]) / 40_000 == pytest.approx(near_duplicates.used_ram(60_000, 60_000) / 60_000, rel=0.15)


def test_a_picture_that_fills_the_memory_is_grouped_in_time(take_over: Build, tmp_path: Path) -> None:
    """A catalogue's placeholder: walking the chain of each of 30,000 copies to its end took 16 seconds of 21."""
    rows = 30_000
    array = images(100)[np.maximum(np.arange(rows) - (rows - 100), 0)]
    began = time.process_time()
    result = take_over("shop", array, unit_rows=8192, max_segment_rows=rows)
    assert time.process_time() - began < 15
    assert result.copies >= rows - 100
    lines = [json.loads(line) for line in (tmp_path / "memory/work/near_duplicates.jsonl").read_text().splitlines()]
    assert {line["group"] for line in lines if line["key"] in ("shop/0", "shop/1", "shop/29800")} == {0}
