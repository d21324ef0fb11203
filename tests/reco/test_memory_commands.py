"""`reco memory …` as a person and as a program use it: tables, JSON, exit codes, and a whole life of a memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import memory
from memory_builder import BuildConfig, Origin, build_from_embeddings, open_embeddings
from reco.cli import app

COMMANDS = ("info", "verify", "diff", "remove", "compact", "purge", "gc", "rollback")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of 30 items, keys set.npz/k0 …"""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "40")
    rng = np.random.default_rng(0)
    sides = {side: rng.standard_normal((30, 16)).astype(np.float32) for side in ("image", "text")}
    np.savez(tmp_path / "set.npz", **sides, key=np.array([f"k{n}" for n in range(30)]))
    np.savez(tmp_path / "test.npz", image=sides["image"][[4, 9]])
    config = BuildConfig((str(tmp_path / "set.npz"),), tmp_path / "memory")
    readers = open_embeddings(config)
    build_from_embeddings(config, readers, Origin.undeclared("some-clip", readers[0].embed_dim))
    return tmp_path / "memory"


def reco(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["memory", *map(str, arguments)])


def told(*arguments: object) -> dict[str, Any]:
    result = reco(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def key(number: int) -> str:
    return f"set/k{number}"


def test_the_keys_of_this_file(root: Path) -> None:
    with memory.Memory.open(root) as opened:
        assert opened.keys()[3] == key(3)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there_with_an_example(command: str) -> None:
    result = reco(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output


def test_a_life_of_a_memory_as_json(root: Path) -> None:
    assert told("info", root)["items"] == 30
    dry = told("remove", root, "--like", root.parent / "test.npz", "--dry-run")
    assert (dry["created"], dry["dry_run"], dry["keys"]) == (False, True, [key(4), key(9)])
    removal = told("remove", root, "--keys", "set/k1?", key(2))
    assert (removal["version"], len(removal["keys"]), removal["num_items"]) == (2, 11, 19)
    assert told("remove", root, "--keys", key(2))["already"] == [key(2)]
    compaction = told("compact", root)
    assert (compaction["created"], compaction["after"]["rows"]) == (True, 19)
    found = told("diff", root, 1, 3, "--list")
    assert (found["removed"], found["keys"]["added"], len(found["keys"]["removed"])) == (11, [], 11)
    assert told("rollback", root, 1)["after"]["items"] == 30
    receipt = told("purge", root, "--keys", key(5))
    assert (receipt["state"], receipt["version_after"], receipt["items"]) == ("complete", 5, 1)
    assert (root / receipt["receipt"]).is_file()
    collected = told("gc", root, "--keep", 1)
    assert collected["kept"] == [5]
    assert told("verify", root, "--full")["ok"]
    assert told("info", root)["unfinished_purges"] == []


def test_tables_tell_sizes_and_what_to_do_next(root: Path) -> None:
    info = reco("info", root)
    assert info.exit_code == 0
    assert memory.read_manifest(root).digest in info.stdout  # whole, however narrow the terminal
    assert " MB in this version" in info.stdout
    removed = reco("remove", root, "--keys", "set/k1*")
    assert "11 items" in removed.stdout
    assert f"next: reco memory compact {root}" in removed.stdout
    assert f"next: reco memory compact {root}" in reco("info", root).stdout
    assert "gc" in reco("compact", root).stdout
    assert f"- {key(12)}" in reco("diff", root, 1, 3, "--list").stdout.splitlines()
    gc = reco("gc", root, "--keep", 1, "--dry-run").stdout
    assert "manifests/00000001.json" in gc
    assert "would free" in gc
    purge = reco("purge", root, "--keys", key(5)).stdout
    assert "receipts/" in purge
    assert "sound" in reco("verify", root, "--full").stdout
    rolled = reco("rollback", root, 4)
    assert (rolled.exit_code, memory.list_versions(root)) == (0, [4])
    assert "the newest version has these contents already" in rolled.stdout


def test_a_dry_run_lists_similarities(root: Path) -> None:
    lines = reco("remove", root, "--like", root.parent / "test.npz", "--dry-run").stdout.splitlines()
    assert f"1.0000 {key(4)}" in lines
    assert memory.list_versions(root) == [1]


def test_keys_from_a_file_are_literal(root: Path) -> None:
    (root.parent / "keys.txt").write_text(f"{key(1)}\n\n{key(2)}\n", encoding="utf-8-sig")  # as Notepad saves it
    assert told("remove", root, "--keys-from", root.parent / "keys.txt")["keys"] == [key(1), key(2)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["remove"],
        ["remove", "--keys", "a", "--like", "b.npz"],
        ["remove", "--keys", "a", "--cosine", "0.9"],
        ["remove", "--keys-from", "nowhere.txt"],
        ["purge"],
        ["gc", "--keep", "0"],
        ["rollback"],
        ["diff", "1"],
    ],
)
def test_a_wrong_command_is_exit_code_2(root: Path, arguments: list[str]) -> None:
    result = reco(arguments[0], root, *arguments[1:])
    assert result.exit_code == 2
    assert memory.list_versions(root) == [1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["remove", "--keys", "nowhere"], "key_not_found"),
        (["purge", "--keys", "*"], "nothing_left"),
        (["rollback", "9"], "version_not_found"),
        (["remove", "--like", "nowhere.npz"], "selection_invalid"),
    ],
)
def test_a_refusal_is_one_sentence_with_its_code_and_exit_code_1(root: Path, arguments: list[str], code: str) -> None:
    command = [sys.executable, "-m", "reco.cli", "memory", arguments[0], str(root), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"reco: {code}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert memory.list_versions(root) == [1]


def test_a_broken_memory_is_exit_code_1_for_people_and_programs(root: Path) -> None:
    path = next(root.glob("segments/*/text.f16.npy"))
    path.write_bytes(bytes(path.stat().st_size))
    assert reco("verify", root).exit_code == 0  # sizes only
    assert reco("verify", root, "--full").exit_code == 1
    result = reco("verify", root, "--full", "--json")
    assert result.exit_code == 1
    assert [problem["code"] for problem in json.loads(result.stdout)["problems"]] == ["shard_hash_mismatch"]


def test_a_second_writer_is_told(root: Path) -> None:
    with memory.BuildLock(root):
        result = reco("compact", root)
    assert isinstance(result.exception, memory.Locked)
