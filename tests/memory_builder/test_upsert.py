"""Growing by key: an upsert replaces what changed in one commit; what was removed stays out until it is asked back."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sudden_death import deaths

import memory
from memory import KeyPatterns, Memory
from memory_builder import BuildConfig, BuildResult, Origin, TooManyRejected, build_from_embeddings, open_embeddings


@pytest.fixture
def photos(tmp_path: Path, write_folder: Callable[..., Path]) -> Path:
    return write_folder(tmp_path / "photos", range(20))


def stored(root: Path) -> dict[str, str]:
    """Caption of every alive item by key; no key twice."""
    with Memory.open(root) as opened:
        ids = np.setdiff1d(np.arange(opened.num_rows), opened.deleted_ids())
        items = opened.items(ids)
        assert len({item.key for item in items}) == len(items) == opened.num_items
        return {item.key: item.caption for item in items}


def ledger(root: Path) -> dict[str, str]:
    lines = (root / "work/rejected.jsonl").read_text().splitlines()
    return {row["key"]: row["code"] for row in map(json.loads, lines)}


def test_a_changed_pair_is_reported_without_upsert_and_replaced_with_it(
    run: Callable[..., BuildResult], photos: Path, tmp_path: Path
) -> None:
    root = tmp_path / "memory"
    run(photos)
    before = stored(root)
    (photos / "000/00003.txt").write_text("a new caption")
    shutil.copy(photos / "000/00007.jpg", photos / "001/00012.jpg")
    plain = run(photos, max_error_rate=1.0)
    assert (plain.created, plain.rejected, plain.replaced) == (False, {"duplicate_key": 2}, 0)
    assert ledger(root) == {"photos/000/00003": "duplicate_key", "photos/001/00012": "duplicate_key"}
    assert stored(root) == before
    done = run(photos, upsert=True)
    assert (done.version, done.added, done.replaced, done.present, done.rejected) == (2, 2, 2, 18, {})
    assert done.num_items == 20
    assert stored(root) == {**before, "photos/000/00003": "a new caption"}
    found = memory.difference(root, 1, 2)
    assert (found.changed, found.added, found.removed) == (("photos/000/00003", "photos/001/00012"), (), ())
    assert memory.read_manifest(root).removed is None
    again = run(photos, upsert=True)
    assert (again.created, again.added, again.present) == (False, 0, 20)
    assert memory.verify_memory(root, full=True).ok
    left = len(list((root / "work/units").iterdir()))
    for caption in ("a newer caption", "the newest caption"):  # each version has other names for all units
        (photos / "000/00003.txt").write_text(caption)
        assert run(photos, upsert=True).created and not run(photos, upsert=True).created
        # The one that changed is nobody's any more as it was, and gone.
        assert len(list((root / "work/units").iterdir())) == left


def test_what_is_there_already_is_of_the_rows_that_the_rate_is_of(
    run: Callable[..., BuildResult], tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    photos = write_folder(tmp_path / "photos", range(60))
    for number in (1, 2):
        (photos / f"000/{number:05}.jpg").write_bytes(b"no image")
    run(photos, unit_rows=100)
    for number in (10, 11, 12, 13):
        (photos / f"001/{number:05}.txt").write_text(f"another caption, {number}")
    with pytest.raises(TooManyRejected, match=r"6 of 60 rows \(10\.0%\).*Of 4 rows.*--upsert") as told:
        run(photos, unit_rows=100)
    assert "key column" not in told.value.message
    done = run(photos, unit_rows=100, upsert=True)
    assert (done.replaced, done.present, done.changed, sum(done.rejected.values())) == (4, 54, 0, 2)


def test_what_an_upsert_has_replaced_is_no_changed_pair_any_more(
    run: Callable[..., BuildResult], tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    photos = write_folder(tmp_path / "photos", range(60))
    run(photos, unit_rows=100)
    for number in range(10, 20):
        (photos / f"001/{number:05}.txt").write_text(f"another caption, {number}")
    with pytest.raises(TooManyRejected, match=r"10 of 60 rows.*--upsert"):
        run(photos, unit_rows=100)
    assert run(photos, unit_rows=100, upsert=True).replaced == 10
    again = run(photos, unit_rows=100)
    assert (again.present, again.changed, again.rejected) == (60, 0, {})


def test_an_upsert_goes_back_and_forth(run: Callable[..., BuildResult], photos: Path, tmp_path: Path) -> None:
    """A unit that was published once is no reason to leave out what the corpus says today."""
    root = tmp_path / "memory"
    run(photos)
    for caption in ("b", "a", "b", "a"):
        (photos / "000/00003.txt").write_text(caption)
        os.utime(photos / "000/00003.txt", ns=(10**18, 10**18))
        assert run(photos, upsert=True).replaced == 1
        assert stored(root)["photos/000/00003"] == caption
    memory.compact(root)
    assert stored(root)["photos/000/00003"] == "a"


def test_an_upsert_into_nothing_is_a_build(run: Callable[..., BuildResult], photos: Path, tmp_path: Path) -> None:
    plain = run(photos, memory=tmp_path / "plain")
    assert run(photos, upsert=True).digest == plain.digest


def test_what_cannot_be_read_keeps_what_is_stored(
    run: Callable[..., BuildResult], photos: Path, tmp_path: Path
) -> None:
    run(photos)
    (photos / "000/00003.jpg").write_bytes(b"no image")
    done = run(photos, upsert=True, max_error_rate=1.0)
    assert (done.created, done.replaced, sum(done.rejected.values())) == (False, 0, 1)
    assert len(stored(tmp_path / "memory")) == 20


@pytest.mark.parametrize("how", ["remove", "compact", "purge"])
def test_what_was_removed_stays_out_of_later_builds(
    run: Callable[..., BuildResult], photos: Path, tmp_path: Path, write_folder: Callable[..., Path], how: str
) -> None:
    root, gone = tmp_path / "memory", {"photos/000/00003", "photos/000/00004"}
    run(photos)
    if how == "purge":
        memory.purge(root, KeyPatterns([], sorted(gone)))
    else:
        memory.remove_keys(root, KeyPatterns([], sorted(gone)))
    if how == "compact":
        memory.compact(root)
        memory.collect(root, keep=1)
    assert not run(photos).created  # the units are known still
    write_folder(photos, range(100, 101))
    (photos / "000/00002.txt").write_text("changed, so that its unit is read again")
    for settings in ({}, {"upsert": True}):
        done = run(photos, **settings, max_error_rate=0.6)
        assert gone.isdisjoint(stored(root))
        assert done.rejected["removed_earlier"] == 2
    assert len(stored(root)) == 19
    back = run(photos, restore_removed=True)
    assert back.added == 2
    assert gone < stored(root).keys()
    assert memory.read_manifest(root).removed is None
    assert not run(photos).created


def test_a_replaced_item_is_never_returned(run: Callable[..., BuildResult], photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "memory"
    run(photos)
    with Memory.open(root) as opened:
        queries = opened.rows("image", [3])
    (photos / "000/00003.txt").write_text("a new caption")
    run(photos, upsert=True)
    for _ in range(2):
        with Memory.open(root) as opened:
            found = opened.items(opened.search(queries, 20, modality="image").ids[0])
        assert [item.caption for item in found if item.key == "photos/000/00003"] == ["a new caption"]
        memory.compact(root)


def npz_build(root: Path, source: Path, **settings: Any) -> BuildResult:
    config = BuildConfig((str(source),), root, unit_rows=8, **settings)
    readers = open_embeddings(config)
    return build_from_embeddings(config, readers, Origin.undeclared("some-clip", readers[0].embed_dim))


def write_npz(path: Path, captions: list[str]) -> Path:
    rng = np.random.default_rng(0)
    sides = {side: rng.standard_normal((len(captions), 16)).astype(np.float32) for side in ("image", "text")}
    np.savez(path, **sides, caption=np.array(captions), key=np.array([f"k{n}" for n in range(len(captions))]))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
def test_X01_an_upsert_killed_at_each_step_ends_the_same(place: Path) -> None:
    captions = [f"caption {n}" for n in range(20)]
    source, template = write_npz(place / "set.npz", captions), place / "template"
    old = npz_build(template, source).digest
    captions[2], captions[17] = "two", "seventeen"
    write_npz(source, captions)
    shutil.copytree(template, place / "whole")
    expected = npz_build(place / "whole", source, upsert=True).digest
    steps = 0
    for root, code in deaths(template, place, lambda root: npz_build(root, source, upsert=True), every=3):
        steps += code != 0
        assert code in (-signal.SIGKILL, 0)
        with Memory.open(root) as opened:
            assert opened.digest in (old, expected)
        done = npz_build(root, source, upsert=True)
        assert (done.digest, done.version) == (expected, 2), root.name
    assert steps > 10
