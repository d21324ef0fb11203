"""Commits with real processes: one wins a race, one holds the lock, kill -9 leaves old or new (X1, X6)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memory
from memory import Memory, list_versions, read_manifest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@pytest.fixture
def child():
    """Starts committing_child.py; whatever is still running at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1"}

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "committing_child.py"), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def head(root: Path) -> int:
    return json.loads((root / "HEAD").read_bytes())["version"]


def temporaries(root: Path) -> list[Path]:
    return list(root.rglob(".tmp-*"))


def test_versions_count_up_and_head_follows(root, factory):
    for version in (1, 2, 3):
        manifest = factory.commit(root, [factory.make_rows(5, seed=version)], parent=version - 1 or None)
        assert (manifest.version, head(root)) == (version, version)
    assert list_versions(root) == [1, 2, 3]
    assert memory.latest_version(root) == 3
    assert Memory.open(root).keys()[0] == "3-0"
    assert Memory.open(root, version=1).keys()[0] == "1-0"
    assert not temporaries(root)


@pytest.mark.parametrize("parent", [None, 1, 3])
def test_X7_a_builder_that_was_overtaken_cannot_commit(root, factory, parent):
    for version in (1, 2):
        factory.commit(root, [factory.make_rows(5, seed=version)], parent=version - 1 or None)
    before = {path: path.read_bytes() for path in root.glob("manifests/*")}
    with pytest.raises(memory.VersionTaken) as refusal:
        factory.commit(root, [factory.make_rows(5, seed=9)], parent=parent)
    assert refusal.value.code == "version_taken"
    assert {path: path.read_bytes() for path in root.glob("manifests/*")} == before


def test_a_gap_left_by_gc_does_not_let_an_old_builder_in(root, factory):
    for version in (1, 2, 3):
        factory.commit(root, [factory.make_rows(5, seed=version)], parent=version - 1 or None)
    (root / "manifests/00000002.json").unlink()
    with pytest.raises(memory.VersionTaken):
        factory.commit(root, [factory.make_rows(5, seed=9)], parent=1)


def test_what_open_would_refuse_is_not_committed(root, factory):
    import dataclasses

    manifest = factory.commit(root, [factory.make_rows(5)])
    values = {item.name: getattr(manifest, item.name) for item in dataclasses.fields(memory.Contents)}
    contents = memory.Contents(**{**values, "parent": 1})
    for broken in (
        {"segments": ()},
        {"search_defaults": {"k": -1}},
        {"sources": {"mean": float("nan")}},
        {"encoder": {}},
    ):
        with pytest.raises((memory.ManifestInvalid, KeyError)):
            memory.publish(root, dataclasses.replace(contents, **broken))
    (root / manifest.files[0].path).unlink()
    with pytest.raises(memory.FileMissing):
        memory.publish(root, contents)
    assert list_versions(root) == [1]


@pytest.mark.parametrize("content", [None, b"", b"garbage", b'{"manifest":"manifests/00000009.json","version":9}\n'])
def test_head_is_a_hint_that_readers_ignore_and_writers_repair(built, content):
    (built / "HEAD").unlink()
    if content is not None:
        (built / "HEAD").write_bytes(content)
    assert Memory.open(built).version == 1
    with memory.BuildLock(built):
        assert head(built) == 1


def test_X6_two_builders_one_winner_each_round(built, child):
    rounds = 12
    builders = [child("race", built, rounds, name) for name in ("a", "b")]
    for version in range(2, rounds + 2):
        assert [builder.stdout.readline() for builder in builders] == ["ready\n", "ready\n"]
        for builder in builders:
            builder.stdin.write("\n")
            builder.stdin.flush()
        outcomes = [builder.stdout.readline().strip() for builder in builders]
        assert sorted(outcomes) == ["version_taken", "won"]
        winner = "ab"[outcomes.index("won")]
        assert read_manifest(built, version).sources == {"builder": winner}
    assert list_versions(built) == list(range(1, rounds + 2))
    Memory.open(built).close()


def test_X6_the_second_builder_is_told_at_once(root, child):
    holder = child("lock", root)
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(memory.Locked) as refusal, memory.BuildLock(root):
        pass
    assert refusal.value.code == "locked"
    holder.kill()  # the kernel drops the lock of a killed process
    holder.wait()
    with memory.BuildLock(root):
        pass
    with memory.BuildLock(root):  # and a block gives it back
        pass


def test_X1_kill_at_every_step_leaves_the_old_version_or_the_new(place, factory, child):
    """SIGKILL before each file operation of a whole addition; then the same addition again, without flags."""
    template, target = place / "template", place / "killed"
    old = factory.commit(template, [factory.make_rows(12, seed=1)])
    factory.commit(place / "new", [factory.make_rows(12, seed=1)])
    unbroken = factory.commit(
        place / "new", [factory.make_rows(12, seed=1), factory.make_rows(9, seed=2)], deletes=[4], parent=1
    )
    steps, exit_status = map(int, child("crash", template, target).communicate(timeout=240)[0].split())
    assert exit_status == 0
    assert steps > 60
    seen = set()
    for step in range(1, steps + 1):
        root = target / str(step)
        with Memory.open(root) as opened:
            assert opened.digest == {1: old.digest, 2: unbroken.digest}[opened.version]
            seen.add(opened.version)
            assert opened.num_items == {1: 12, 2: 20}[opened.version]
        with memory.BuildLock(root):
            assert not temporaries(root)
            assert head(root) == opened.version
            if opened.version == 1 and step % 7 == 0:
                again = [factory.make_rows(12, seed=1), factory.make_rows(9, seed=2)]
                assert factory.commit(root, again, deletes=[4], parent=1).digest == unbroken.digest
    assert seen == {1, 2}


def test_what_may_not_be_written_or_listed_is_told_in_a_sentence(built: Path) -> None:
    """What another user's memory, or one that is mounted read-only, answers: an error of the system."""
    root = built
    (root / "work/lock").unlink(missing_ok=True)
    (root / "work/lock").mkdir(parents=True)
    with pytest.raises(memory.WriteFailed, match="work/lock cannot be locked: Is a directory"):
        memory.compact(root)

    shutil.rmtree(root / "manifests")
    (root / "manifests").symlink_to("manifests")
    with pytest.raises(memory.ManifestInvalid, match="cannot be listed: Too many levels"):
        Memory.open(root)
