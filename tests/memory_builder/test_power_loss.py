"""Power loss: what was not fsynced is gone or torn, at every fsync of a build (X3).

A disk is modelled: file contents are durable as of their last fsync, names as of the last fsync of their directory.
Before each fsync two states that a machine may find after a power loss are written down as folders of their own:

    lost    nothing that was not fsynced is there: names of the last directory fsync, contents of the last file fsync
    torn    every name is there, as after a journal's replay; contents that were not fsynced are cut in half
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

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


class Disk:
    """What of a folder would be there after a power loss."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._contents: dict[int, bytes] = {}  # by inode
        self._names: dict[int, list[tuple[str, int, bool]]] = {}  # entries of a directory, by its inode
        self._held: list[int] = []  # descriptors: an inode that is held is not given to another file
        for folder, _, files in os.walk(root):
            for path in (*(Path(folder) / name for name in files), Path(folder)):
                self._keep(os.open(path, os.O_RDONLY))

    def fsync(self, descriptor: int) -> None:
        self._keep(os.dup(descriptor))

    def _keep(self, descriptor: int) -> None:
        self._held.append(descriptor)
        inode = os.fstat(descriptor).st_ino
        path = Path(f"/proc/self/fd/{descriptor}")
        if path.is_dir():
            self._names[inode] = [(entry.name, entry.inode(), entry.is_dir()) for entry in os.scandir(path)]
        else:
            self._contents[inode] = path.read_bytes()

    def lost(self, copy: Path) -> Path:
        self._restore(self._root.stat().st_ino, copy)
        return copy

    def _restore(self, directory: int, copy: Path) -> None:
        copy.mkdir()
        for name, inode, is_directory in self._names.get(directory, ()):
            if is_directory:
                self._restore(inode, copy / name)
            else:
                (copy / name).write_bytes(self._contents.get(inode, b""))

    def torn(self, copy: Path) -> Path:
        shutil.copytree(self._root, copy)
        for path in self._root.rglob("*"):
            if path.is_file() and self._contents.get(path.stat().st_ino) != path.read_bytes():
                os.truncate(copy / path.relative_to(self._root), path.stat().st_size // 2)
        return copy

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)


@contextmanager
def losing_power(root: Path, before_each: Callable[[Disk, int], None]) -> Iterator[Disk]:
    """Call `before_each` fsync with the disk as it is, and the number of the fsync."""
    disk, fsync, calls = Disk(root), os.fsync, [0]

    def observed(descriptor: int) -> None:
        before_each(disk, calls[0])
        calls[0] += 1
        fsync(descriptor)
        disk.fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", observed)
        yield disk
    disk.close()


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
    folders: list[Path] = []

    def lose(disk: Disk, number: int) -> None:
        folders.append(disk.lost(place / f"lost{number}"))
        folders.append(disk.torn(place / f"torn{number}"))

    with losing_power(memory, lose) as disk:
        new = take_over(cache, memory).digest
        reported = [disk.lost(place / "lost-after"), disk.torn(place / "torn-after")]
    assert [digest(folder) for folder in reported] == [new, new], "what was reported is there"
    assert len(folders) > 60
    found = set()
    for folder in (*folders, *reported):
        found.add(digest(folder))
        assert found <= {old, new}, folder.name
    for folder in (*folders[::5], *reported):  # in turn one of each kind
        assert take_over(cache, folder).digest == new, folder.name
        assert verify_memory(folder, full=True).ok
    assert found == {old, new}
