"""SIGKILL before every file operation of every change (X1): old or new is served, and the same command ends it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memory
from memory import KeyPatterns, Memory

HERE = Path(__file__).parent

AGAIN = {
    "remove": lambda root: memory.remove_keys(root, KeyPatterns(["1-3", "2-1*"])),
    "compact": memory.compact,
    "purge": lambda root: memory.purge(root, KeyPatterns(["1-3", "2-2*"])),
    "gc": lambda root: memory.collect(root, keep=1, work=True),
    "rollback": lambda root: memory.roll_back(root, 1),
}
FEWEST = {"remove": 8, "compact": 30, "purge": 60, "gc": 15, "rollback": 4}


@pytest.fixture
def template(place, factory):
    """Three versions, a unit of an unfinished build and a ledger."""
    root = place / "template"
    factory.commit(root, [factory.make_rows(12, seed=1)])
    factory.commit(root, [factory.make_rows(12, seed=1), factory.make_rows(30, seed=2)], parent=1)
    memory.remove_keys(root, KeyPatterns(["2-5", "1-7"]))
    (root / "work/units/unfinished").mkdir(parents=True)
    (root / "work/units/unfinished/items.arrow").write_bytes(b"cut")
    (root / "work/rejected.jsonl").write_text('{"key": "1-3", "code": "duplicate_key"}\n{"key": "x", "code": "y"}\n')
    return root


def state(root: Path) -> tuple:
    """All that a finished change leaves, but for the clock in a receipt."""
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    ledger = (root / "work/rejected.jsonl").read_text()
    return paths, memory.read_manifest(root).digest, ledger, [r.state for r in memory.list_receipts(root)]


@pytest.mark.parametrize("change", list(AGAIN))
def test_X01_killed_at_every_step_of_a_change(place, template, change):
    whole = place / "whole"
    shutil.copytree(template, whole)
    AGAIN[change](whole)
    expected = state(whole)
    digests = {memory.read_manifest(root).digest for root in (template, whole)}

    command = [sys.executable, str(HERE / "changing_child.py"), change, str(template), str(place / "killed")]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[2]}:{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=240)
    steps, status = map(int, done.stdout.split())
    assert status == 0
    assert steps >= FEWEST[change]
    for step in range(1, steps + 1):
        root = place / "killed" / str(step)
        with Memory.open(root) as opened:
            assert opened.digest in digests, f"step {step}"
        AGAIN[change](root)
        assert state(root) == expected, f"step {step}"
        assert memory.verify_memory(root, full=True).ok
