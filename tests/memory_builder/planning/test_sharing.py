"""Workers that each do a share, and the build that finishes: the memory is that of one process."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memory import BuildLock, MemoryNotFound, read_manifest
from memory_builder import BuildConfig, ConfigError, Share, build, build_share
from memory_builder.units.store import UnitStore
from models.encoder import Encoder


def test_shares_are_everything_once() -> None:
    things = list(range(23))
    assert sorted(thing for index in range(4) for thing in Share(index, 4).of(things)) == things
    assert Share.parse("0/8") == Share(0, 8)


@pytest.mark.parametrize("wrong", ["8/8", "1", "a/b", "-1/3", "1/0", "1/2/3", ""])
def test_what_is_no_share_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="0 to n - 1"):
        Share.parse(wrong)


def test_three_workers_of_which_one_was_lost_and_a_finishing_build(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path]
) -> None:
    corpus = str(write_folder(tmp_path / "corpus", range(70)))
    whole = build(BuildConfig((corpus,), tmp_path / "whole", unit_rows=10), encoder)
    shared = BuildConfig((corpus,), tmp_path / "shared", unit_rows=10)
    done = [build_share(shared, encoder, Share(index, 3)) for index in (2, 0)]  # worker 1 never came
    assert [result.units for result in done] == [2, 3]
    assert {result.units_of_all for result in done} == {7}
    assert len(UnitStore(tmp_path / "shared").ids()) == 5
    with pytest.raises(MemoryNotFound):
        read_manifest(tmp_path / "shared")  # workers publish nothing
    again = build_share(shared, encoder, Share(0, 3))
    assert (again.units, again.units_resumed) == (3, 3)
    finished = build(shared, encoder)
    assert (finished.units_resumed, finished.units_encoded) == (5, 2)
    assert finished.digest == whole.digest


def test_a_worker_goes_on_while_others_write_to_the_memory(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path]
) -> None:
    """Whoever takes the build lock sweeps: a removal, a gc, a pair added to the service."""
    memory = tmp_path / "memory"
    corpus = str(write_folder(tmp_path / "corpus", range(60)))
    ended, locked = threading.Event(), []

    def write() -> None:
        while not ended.is_set():
            with BuildLock(memory):
                locked.append(True)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = build_share(BuildConfig((corpus,), memory, unit_rows=1), encoder, Share(0, 1))
    finally:
        ended.set()
        writer.join()
    assert result.units == len(UnitStore(memory).ids()) == 60
    assert len(locked) > 60

    left = memory / "work/units/.tmp-1-0123456789abcdef"
    left.mkdir()
    with BuildLock(memory):
        assert not left.exists()  # nobody works any more
