"""A build whose machine loses power at any fsync ends in the old version or the new one (X3)."""

import os
from pathlib import Path

import numpy as np
import pytest
from power_loss import losing_power

from memory import Memory, latest_version, verify_memory
from memory_builder import BuildConfig, BuildResult, Origin, build_from_embeddings, open_embeddings

D = 8


def write_cache(path: Path, rows: range) -> Path:
    dice = np.random.default_rng(rows.start)
    image, text = dice.normal(size=(2, len(rows), D)).astype("f4")
    np.savez(path, image=image, text=text, caption=np.array([f"caption {n}" for n in rows]))
    return path


def take_over(cache: Path, memory: Path) -> BuildResult:
    config = BuildConfig((str(cache),), memory, unit_rows=4)
    return build_from_embeddings(config, open_embeddings(config), Origin.undeclared("some-clip", D))


def digest(memory: Path) -> str | None:
    if latest_version(memory) is None:
        return None
    with Memory.open(memory) as opened:
        return opened.digest


@pytest.mark.parametrize("grows", [False, True], ids=["a new memory", "a memory that grows"])
def test_X03_power_is_lost_at_every_fsync_of_a_build(place: Path, grows: bool) -> None:
    first, more = write_cache(place / "first.npz", range(6)), write_cache(place / "more.npz", range(100, 106))
    memory = place / "memory"
    memory.mkdir()
    cache = more if grows else first
    old = take_over(first, memory).digest if grows else None
    with losing_power(memory, place / "after") as folders:
        new = take_over(cache, memory).digest
    reported = folders[-2:]
    assert [digest(folder) for folder in reported] == [new, new], "what was reported is there"
    assert len(folders) > 60
    found = set()
    for folder in folders:
        found.add(digest(folder))
        assert found <= {old, new}, folder.name
    for folder in (*folders[::5], *reported):  # in turn one of each kind
        assert take_over(cache, folder).digest == new, folder.name
        assert verify_memory(folder, full=True).ok
    assert found == {old, new}


def test_X03_the_directory_of_a_new_memory_is_durable_with_those_above_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = set[str](), os.fsync

    def observed(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    take_over(write_cache(place / "first.npz", range(6)), place / "new/deep/memory")
    assert {str(place), str(place / "new"), str(place / "new/deep"), str(place / "new/deep/memory")} <= synced
