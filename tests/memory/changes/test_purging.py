"""Purge: not one byte of an item is left under the memory, a receipt says so, and the rest is as it was."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import memory
from memory import KeyPatterns, Memory, compact, purge, remove_keys


def holding(root: Path, needles: list[bytes]) -> list[str]:
    """Files that hold one of these byte strings."""
    every = [path for path in root.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(root)) for path in every if any(n in path.read_bytes() for n in needles))


@pytest.fixture
def plain(root, factory):
    """Keys of one length, so that none is the beginning of another's bytes."""
    factory.commit(root, [rename(factory.make_rows(40, seed=1)), rename(factory.make_rows(30, seed=2))])
    return root


def rename(rows: memory.Rows) -> memory.Rows:
    """Keys like <item 1-03>, and captions and thumbnails with them."""
    names = [f"<item {key.split('-')[0]}-{int(key.split('-')[1]):02}>" for key in rows.items.column("key").to_pylist()]
    items = rows.items.set_column(0, memory.ITEMS_SCHEMA.field("key"), pa.array(names))
    items = items.set_column(1, memory.ITEMS_SCHEMA.field("caption"), pa.array([f"caption of {n}" for n in names]))
    thumbnails = pa.array([hashlib.sha512(n.encode()).digest() for n in names], pa.binary())
    return memory.Rows(rows.image, rows.text, items.set_column(4, memory.ITEMS_SCHEMA.field("thumbnail"), thumbnails))


def needles_of(root: Path, key: str) -> list[bytes]:
    with Memory.open(root) as opened:
        id = opened.keys().index(key)
        item = opened.items([id])[0]
        manifest = opened.manifest
    bases = list(manifest.base_rows)
    segment = max(i for i, base in enumerate(bases) if base <= id)
    directory = root / f"segments/{manifest.segments[segment].id}"
    sides = [np.load(directory / f"{side}.f16.npy")[id - bases[segment]].tobytes() for side in memory.MODALITIES]
    return [item.key.encode(), item.caption.encode(), item.content_sha256.encode(), item.thumbnail, *sides]


def spread_traces(root: Path, key: str, needles: list[bytes]) -> None:
    """Everything that may name an item outside a version: a unit, a ledger line, quarantined files, an orphan."""
    unit = root / "work/units/unfinished"
    unit.mkdir(parents=True)
    segment = memory.read_manifest(root, 1).segments[0].id
    shutil.copy(root / f"segments/{segment}/items.arrow", unit / "items.arrow")
    (unit / "rejected.jsonl").write_bytes(b"")
    other = root / "work/units/other"
    other.mkdir()
    with pa.OSFile(str(other / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, memory.ITEMS_SCHEMA):
        pass
    (other / "rejected.jsonl").write_bytes(b"")
    lines = [{"key": key, "code": "duplicate_key"}, {"key": "another", "code": "image_empty"}]
    (root / "work/rejected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "quarantine/deep").mkdir(parents=True)
    for number, needle in enumerate(needles):
        (root / f"quarantine/deep/{number}").write_bytes(b"\0" + needle + b"\0")
    (root / "quarantine/innocent").write_bytes(b"other bytes")
    shutil.copytree(root / f"segments/{segment}", root / f"segments/{'0' * 32}")


def test_no_byte_of_an_item_is_left(plain):
    key = "<item 1-03>"
    needles = needles_of(plain, key)
    remove_keys(plain, KeyPatterns(["<item 2-1*"]))
    compact(plain, max_segment_rows=1)
    spread_traces(plain, key, needles)
    assert len(holding(plain, needles)) > 10
    receipt = purge(plain, KeyPatterns([key])).receipt
    assert holding(plain, needles) == []
    assert memory.verify_memory(plain, full=True).ok
    with Memory.open(plain) as opened:
        assert opened.version == 4
        assert opened.num_items == opened.num_rows == 59
        assert key not in set(opened.keys())
    assert memory.list_versions(plain) == [4]
    assert sorted(path.name for path in (plain / "quarantine").rglob("*")) == ["deep", "innocent"]
    assert [path.name for path in (plain / "work/units").iterdir()] == ["other"]
    assert json.loads((plain / "work/rejected.jsonl").read_text())["key"] == "another"
    assert (receipt.ledger_lines, receipt.items, receipt.versions_dropped) == (1, 1, (1, 2, 3))


def test_a_key_that_only_a_list_of_the_last_build_names_is_taken_out_by_pattern(plain):
    path = plain / "work/near_duplicates.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"group": 0, "key": "away/1"}\n{"group": 0, "key": "other", "cosine": 0.99, "copy": false}\n')
    purge(plain, KeyPatterns(["away/*"]))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["other"]


def test_a_file_in_the_work_folder_that_nobody_named_is_searched(plain):
    key = "<item 1-03>"
    needles = needles_of(plain, key)
    (plain / "work/units/unit").mkdir(parents=True)
    for number, needle in enumerate(needles):
        (plain / f"work/new-list-{number}").write_bytes(b"\0" + needle)
        (plain / f"work/units/unit/new-{number}").write_bytes(b"\0" + needle)
    (plain / "work/another").write_bytes(b"other bytes")
    purge(plain, KeyPatterns([key]))
    assert holding(plain, needles) == []
    assert (plain / "work/another").exists()


@pytest.mark.parametrize("damage", ["items.arrow", "rejected.jsonl"])
def test_a_unit_that_cannot_be_read_goes_for_nobody_can_tell_what_it_holds(plain, damage):
    key = "<item 1-03>"
    spread_traces(plain, key, [])
    (plain / "work/units/other" / damage).write_bytes(b"cut")
    purge(plain, KeyPatterns([key]))
    assert list((plain / "work/units").iterdir()) == []


def test_the_receipt_is_stored_and_names_no_key(plain):
    key = "<item 1-03>"
    done = purge(plain, KeyPatterns([key, "<item 2-29>"]))
    receipt = done.receipt
    assert (receipt.state, receipt.version_before, receipt.version_after, receipt.items) == ("complete", 1, 2, 2)
    assert done.keys == (key, "<item 2-29>")
    stored = json.loads((plain / receipt.path).read_text())
    assert stored == json.loads(json.dumps(receipt.to_json()))
    assert hashlib.sha256(key.encode()).hexdigest() in stored["keys_sha256"]
    assert stored["keys"] == 2
    assert stored["digest_after"] == memory.read_manifest(plain).digest
    assert stored["files_deleted"] == sum(entry["files"] for entry in stored["deleted"]) == 1 + 2 * 4 + 2 * 5
    assert not [entry for entry in stored["deleted"] if (plain / entry["path"]).exists()]


def test_versions_that_never_held_it_stay(root, factory):
    factory.commit(root, [factory.make_rows(40, seed=1)])
    factory.commit(root, [factory.make_rows(40, seed=1), factory.make_rows(30, seed=2)], parent=1)
    receipt = purge(root, KeyPatterns(["2-7"])).receipt
    assert receipt.versions_dropped == (2,)
    assert memory.list_versions(root) == [1, 3]
    for version in (1, 3):
        assert memory.verify_memory(root, full=True, version=version).ok
    rolled = memory.roll_back(root, 1).after
    # what was purged stays out of later builds, whatever version is gone back to
    assert memory.read_removed(root, rolled) == {memory.key_hash("2-7")}


def test_what_was_removed_and_compacted_before_is_purged_from_the_older_versions(plain):
    key = "<item 1-03>"
    needles = needles_of(plain, key)
    remove_keys(plain, KeyPatterns([key]))
    compact(plain)
    assert holding(plain, needles)
    done = purge(plain, KeyPatterns([key]))
    assert holding(plain, needles) == []
    # the newest version holds nothing of it: no new version is needed
    assert (done.receipt.version_before, done.receipt.version_after, done.receipt.items) == (3, 3, 0)
    assert memory.list_versions(plain) == [3]


def test_purging_again_shows_the_receipt(plain):
    first = purge(plain, KeyPatterns(["<item 1-03>"]))
    again = purge(plain, KeyPatterns(["<item 1-03>"]))
    assert (again.already, again.receipt) == (True, first.receipt)
    assert memory.list_versions(plain) == [2]
    assert memory.list_receipts(plain) == [first.receipt]


@pytest.mark.parametrize(("names", "error"), [(["nowhere"], memory.KeyNotFound), (["*"], memory.NothingLeft)])
def test_a_purge_that_cannot_be_made_changes_nothing(plain, names, error):
    with pytest.raises(error):
        purge(plain, KeyPatterns(names))
    assert memory.list_versions(plain) == [1]
    assert memory.list_receipts(plain) == []
    assert memory.verify_memory(plain, full=True).ok


def test_a_damaged_older_version_goes_for_nobody_can_tell_what_it_holds(plain):
    remove_keys(plain, KeyPatterns(["<item 2-01>"]))
    (plain / "manifests/00000001.json").write_bytes(b"{}")
    assert purge(plain, KeyPatterns(["<item 1-03>"])).receipt.versions_dropped == (1, 2)


def test_a_begun_purge_never_deletes_what_a_later_version_names(plain, monkeypatch):
    """Killed after the commit, then rolled back to a version that was to be dropped."""
    key = "<item 1-03>"
    needles = needles_of(plain, key)
    with monkeypatch.context() as patched:
        patched.setattr("memory.changes.purging.remove_durably", lambda path: stop())
        with pytest.raises(KeyboardInterrupt):
            purge(plain, KeyPatterns([key]))
    assert memory.list_receipts(plain)[0].state == "begun"
    memory.roll_back(plain, 1)
    with pytest.raises(memory.KeyNotFound):
        purge(plain, KeyPatterns(["nowhere"]))  # any purge goes on with what was begun
    assert memory.verify_memory(plain, full=True).ok
    assert memory.list_versions(plain) == [2, 3]
    purge(plain, KeyPatterns([key]))
    assert holding(plain, needles) == []
    assert memory.verify_memory(plain, full=True).ok


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("edit", [
    lambda value: value.update(items=7, keys=9),
    lambda value: value["deleted"].append({"path": "../../x", "files": 1, "bytes": 1}),
    lambda value: value["deleted"].append({"path": "HEAD", "files": 1, "bytes": 1}),
    lambda value: value.pop("state"),
])  # fmt: skip
def test_a_receipt_that_was_edited_deletes_nothing(plain, edit):
    receipt = purge(plain, KeyPatterns(["<item 1-03>"])).receipt
    value = json.loads((plain / receipt.path).read_text())
    edit(value)
    (plain / receipt.path).write_text(json.dumps(value))
    with pytest.raises(memory.ReceiptInvalid, match=receipt.path):
        purge(plain, KeyPatterns(["<item 1-04>"]))
    assert memory.list_versions(plain) == [2]
