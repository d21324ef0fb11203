"""Workers beside whoever holds the build lock: what is swept, and when."""

import fcntl
from pathlib import Path

import pytest

import memory
from memory import BuildLock
from memory.format import workers
from memory.format.workers import sweep_units, working

LEFT = "work/units/.tmp-1-0123456789abcdef"


def test_the_first_worker_of_all_waits_for_a_sweep_under_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / LEFT).mkdir(parents=True)
    sweep, swept = workers.sweep_temporaries, []

    def sweep_while_a_worker_begins(directory: Path) -> None:
        with (root / "work/workers").open("a") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        sweep(directory)
        swept.append(directory)

    monkeypatch.setattr(workers, "sweep_temporaries", sweep_while_a_worker_begins)
    sweep_units(root)
    assert swept
    assert not (root / LEFT).exists()


def test_without_units_there_is_nothing_to_sweep_and_nothing_is_made(root: Path) -> None:
    with BuildLock(root):
        assert not (root / "work/workers").exists()


def test_a_lock_of_workers_that_cannot_be_opened_is_told_to_them_and_keeps_nobody_else_away(root: Path) -> None:
    """As it is where another user made it."""
    (root / LEFT).mkdir(parents=True)
    (root / "work/workers").mkdir()
    with pytest.raises(memory.WriteFailed, match="work/workers cannot be opened: Is a directory"), working(root):
        pass
    with BuildLock(root):
        assert (root / LEFT).exists()  # nobody can tell whether a worker is writing there
