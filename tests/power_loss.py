"""Power loss, modelled: what was not fsynced is gone or torn (X3).

A disk is modelled: file contents are durable as of their last fsync, names as of the last fsync of their directory.
Before each fsync two states that a machine may find after a power loss are written down as folders of their own:

    lost    nothing that was not fsynced is there: names of the last directory fsync, contents of the last file fsync
    torn    every name is there, as after a journal's replay; contents that were not fsynced are cut in half
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
def losing_power(root: Path, into: Path) -> Iterator[list[Path]]:
    """What a machine would find after a power loss before each fsync: a folder `lost`, a folder `torn`, and so on.

    The last two are of a power loss after all was done.
    """
    into.mkdir()
    disk, fsync, found = Disk(root), os.fsync, list[Path]()

    def lose() -> None:
        number = len(found) // 2
        found.extend([disk.lost(into / f"lost{number}"), disk.torn(into / f"torn{number}")])

    def observed(descriptor: int) -> None:
        lose()
        fsync(descriptor)
        disk.fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", observed)
        yield found
    lose()
    disk.close()
