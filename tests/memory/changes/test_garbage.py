"""Gc, rollback and diff: what no kept version names goes, what one names stays, also under a reader's hands."""

import shutil
import threading

import numpy as np
import pytest

import memory
from memory import KeyPatterns, Memory, collect, compact, difference, remove_keys, roll_back
from memory.format import versions


@pytest.fixture
def grown(root, factory):
    """Versions 1 to 4: built, grown, two removals, compacted."""
    factory.commit(root, [factory.make_rows(40, seed=1)])
    factory.commit(root, [factory.make_rows(40, seed=1), factory.make_rows(30, seed=2)], parent=1)
    remove_keys(root, KeyPatterns(["1-1", "2-1"]))
    compact(root)
    return root


def named(root) -> set:
    return {
        root / file.path for version in memory.list_versions(root) for file in memory.read_manifest(root, version).files
    }


def stored(root) -> set:
    places = ("segments", "indexes", "deletes", "removed")
    return {path for place in places for path in (root / place).rglob("*") if path.is_file()}


@pytest.mark.parametrize("keep", [None, 1, 2, 3, 4, 9])
def test_just_what_the_kept_versions_name_is_left(grown, keep):
    (grown / f"segments/{'a' * 32}").mkdir()
    (grown / f"segments/{'a' * 32}/image.f16.npy").write_bytes(b"left by a killed build")
    (grown / f"deletes/{'b' * 32}.npy").write_bytes(b"too")
    everything = stored(grown)
    dry = collect(grown, keep=keep, dry_run=True)
    assert stored(grown) == everything
    done = collect(grown, keep=keep)
    assert (done.removed, done.kept) == (dry.removed, tuple([1, 2, 3, 4][-(keep or 4) :]))
    assert memory.list_versions(grown) == list(done.kept)
    assert stored(grown) == named(grown)
    assert done.bytes > 0
    for version in done.kept:
        assert memory.verify_memory(grown, full=True, version=version).ok
    assert collect(grown, keep=keep).removed == ()


def test_a_reader_keeps_what_it_has_open(grown, factory):
    queries = factory.unit_rows(4, factory.D, 0)
    with Memory.open(grown, version=2) as opened:
        before = opened.search(queries, 20, modality="image")
        collect(grown, keep=1)
        assert memory.list_versions(grown) == [4]
        after = opened.search(queries, 20, modality="image")
        assert opened.items([69])[0].key == "2-29"
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_array_equal(before.values, after.values)
    with pytest.raises(memory.VersionNotFound):
        Memory.open(grown, version=2)


def test_a_version_collected_while_it_is_opened_gives_way_to_the_newer(grown, monkeypatch):
    """The newest version is read; before its files are, another one is committed and the older collected."""
    check, calls = memory.memory.check_files, []

    def late(root, files, **options):
        calls.append(1)
        if len(calls) == 1:
            remove_keys(root, KeyPatterns(["1-5"]))
            compact(root)
            collect(root, keep=1)
        check(root, files, **options)

    monkeypatch.setattr("memory.memory.check_files", late)
    with Memory.open(grown) as opened:
        assert opened.version == 6


def test_a_version_collected_before_its_manifest_is_read_gives_way_to_the_newer(grown, monkeypatch):
    """It is listed as the newest; before it is read, another one is committed and it is collected."""
    before, open_plain, changed = memory.latest_version(grown), versions.open_plain, []

    def late(root, path):
        if not changed:
            changed.append(True)  # what follows opens files, too
            roll_back(grown, 1)
            collect(grown, keep=1)
        return open_plain(root, path)

    monkeypatch.setattr(versions, "open_plain", late)
    with Memory.open(grown) as opened:
        assert opened.version == before + 1


def test_readers_come_and_go_while_versions_are_collected(grown, factory):
    failures, stopping = [], threading.Event()

    def read() -> None:
        while not stopping.is_set():
            try:
                with Memory.open(grown) as opened:
                    opened.search(factory.unit_rows(1, factory.D, 0), 5, modality="text")
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(2, 8):
        remove_keys(grown, KeyPatterns([f"1-{number}"]))
        compact(grown)
        collect(grown, keep=1)
    stopping.set()
    thread.join()
    assert failures == []


def test_X01_half_a_directory_is_never_found_under_its_name(grown, factory, monkeypatch):
    """Killed while a segment is deleted: a build that writes the same segment again must not take the rest for it."""

    def killed(directory, **_: object) -> None:
        next(path for path in directory.iterdir() if path.name != "segment.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(grown, keep=1)
    with memory.BuildLock(grown):
        factory.commit(grown, [factory.make_rows(40, seed=1), factory.make_rows(30, seed=2)], parent=4)
    assert memory.verify_memory(grown, full=True).ok


def test_units_of_an_unfinished_build_are_kept_unless_asked(grown):
    published = memory.read_manifest(grown).segments[0].units[0].id
    for name in (published, "unfinished"):
        (grown / f"work/units/{name}").mkdir(parents=True)
        (grown / f"work/units/{name}/unit.json").write_bytes(b"{}")
    (grown / "work/units/.tmp-1-0123456789abcdef").mkdir()
    done = collect(grown)
    assert [leftover.path for leftover in done.unfinished] == ["work/units/unfinished"]
    assert [path.name for path in (grown / "work/units").iterdir()] == ["unfinished"]
    assert collect(grown, work=True).unfinished == ()
    assert list((grown / "work/units").iterdir()) == []


def test_quarantine_and_foreign_names_are_left_alone(grown):
    kept = ["quarantine/shard-00000.faiss", "segments/notes.txt", "deletes/mine.npy", "README", "work/build-log.jsonl"]
    for name in kept:
        (grown / name).parent.mkdir(exist_ok=True)
        (grown / name).write_bytes(b"mine")
    collect(grown, keep=1, work=True)
    assert [(grown / name).read_bytes() for name in kept] == [b"mine"] * 5


def test_nothing_goes_if_a_kept_manifest_cannot_be_read(grown):
    everything = stored(grown)
    (grown / "manifests/00000003.json").write_bytes(b"{}")
    with pytest.raises(memory.ManifestInvalid):
        collect(grown, keep=2)
    assert stored(grown) == everything
    assert memory.list_versions(grown) == [1, 2, 3, 4]
    assert collect(grown, keep=1).dropped == (1, 2, 3)  # but a damaged one may go


def test_keep_is_at_least_one(grown):
    with pytest.raises(memory.SelectionInvalid):
        collect(grown, keep=0)


def test_rollback_commits_the_old_contents_as_a_new_version(grown):
    done = roll_back(grown, 2)
    assert (done.created, done.before.version, done.after.version, done.after.parent) == (True, 4, 5, 4)
    assert done.after.digest == memory.read_manifest(grown, 2).digest
    with Memory.open(grown) as opened:
        assert opened.num_items == 70
    assert not roll_back(grown, 2).created
    assert memory.list_versions(grown) == [1, 2, 3, 4, 5]
    roll_back(grown, 4)
    with Memory.open(grown) as opened:
        assert opened.num_items == 68


def test_a_rollback_to_what_is_damaged_or_gone_is_refused(grown):
    with pytest.raises(memory.VersionNotFound):
        roll_back(grown, 9)
    segment = memory.read_manifest(grown, 2).segments[1].id
    path = grown / f"segments/{segment}/text.f16.npy"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(memory.ShardHashMismatch):
        roll_back(grown, 2)
    assert memory.latest_version(grown) == 4


def test_diff_tells_items_by_key(grown, factory):
    found = difference(grown, 1, 4)
    assert found.removed == ("1-1",)
    assert found.added == tuple(sorted(f"2-{n}" for n in range(30) if n != 1))
    assert (found.changed, found.kept, found.encoder) == ((), 39, ())
    other = {name: (old, new) for name, old, new in found.other}
    assert "segments" not in other, "one before, and one after the two were compacted"
    assert other["rows"] == (40, 68)
    assert other["removed keys"] == (0, 2)
    assert {"image index", "text index"} <= other.keys()
    same = difference(grown, 3, 4)
    assert (same.added, same.removed, same.changed, same.kept) == ((), (), (), 68)
    assert difference(grown, 4, 4).other == ()


def test_diff_tells_changed_pairs(root, factory):
    rows = factory.make_rows(10, seed=1)
    factory.commit(root, [rows])
    captions = rows.items.column("caption").to_pylist()
    captions[4] = "another"
    items = rows.items.set_column(1, memory.ITEMS_SCHEMA.field("caption"), [captions])
    factory.commit(root, [memory.Rows(rows.image, rows.text, items)], parent=1)
    assert difference(root, 1, 2).changed == ("1-4",)
