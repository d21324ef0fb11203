"""Gc: old versions on request, and every file that no kept version names. Standard library only.

Manifests go first, files after: killed in between, what is left names nothing that is gone, and the next gc goes on.
A directory goes whole (durable.remove_durably). A reader that has a version open keeps its mapped files until it closes
them. Names that are not of the format are left alone, and so is quarantine/.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memory.errors import SelectionInvalid
from memory.format.durable import remove_durably
from memory.format.manifest import Contents
from memory.format.publish import BuildLock
from memory.format.versions import list_versions, manifest_path, read_manifest
from memory.format.work_files import UNITS

_PLACES: Final = {
    "segments": re.compile(r"[0-9a-f]{32}"),
    "indexes": re.compile(r"[0-9a-f]{32}"),
    "deletes": re.compile(r"[0-9a-f]{32}\.npy"),
    "removed": re.compile(r"[0-9a-f]{32}\.npy"),
}


@dataclass(frozen=True)
class Leftover:
    """A file or directory, relative to the memory, with all that is in it."""

    path: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Collection:
    """What a gc did, or would do.

    Attributes:
        kept: versions that are still there.
        dropped: versions that are not.
        removed: what was deleted, manifests among it.
        unfinished: units of a build that was not finished; kept, unless asked otherwise.
        dry_run: nothing was deleted.
    """

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    removed: tuple[Leftover, ...]
    unfinished: tuple[Leftover, ...]
    dry_run: bool

    @property
    def files(self) -> int:
        return sum(leftover.files for leftover in self.removed)

    @property
    def bytes(self) -> int:
        return sum(leftover.bytes for leftover in self.removed)


def collect(root: Path, *, keep: int | None = None, work: bool = False, dry_run: bool = False) -> Collection:
    """Delete what no kept version names.

    Args:
        root: the memory's directory.
        keep: how many of the newest versions to keep; None keeps all.
        work: also drop the finished units of a build that was killed, which it would otherwise go on from.
        dry_run: find out, and delete nothing.

    Raises:
        SelectionInvalid: `keep` is less than 1.
        ManifestInvalid: a version that is to be kept cannot be read, so nobody knows what it names; nothing is deleted.
        Locked: another process is writing.
        WriteFailed: a file could not be deleted; run it again.
    """
    if keep is not None and keep < 1:
        raise SelectionInvalid(f"keep is {keep}: a memory keeps at least its newest version")
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root):
        versions = list_versions(root)
        kept = versions if keep is None else versions[-keep:]
        dropped = versions[: len(versions) - len(kept)]
        manifests = [read_manifest(root, version) for version in kept]
        published = {unit.id for manifest in manifests for segment in manifest.segments for unit in segment.units}
        units = list(_measured(root, UNITS))
        unfinished = [unit for unit in units if Path(unit.path).name not in published and not work]
        removed = [
            *(measure(root, manifest_path(version)) for version in dropped),
            *unreferenced(root, manifests),
            *(unit for unit in units if unit not in unfinished),
        ]
        if not dry_run:
            for leftover in removed:
                remove_durably(root / leftover.path)
    return Collection(tuple(kept), tuple(dropped), tuple(removed), tuple(unfinished), dry_run)


def unreferenced(root: Path, kept: Iterable[Contents]) -> list[Leftover]:
    """Segments, indexes and lists that none of `kept` names."""
    named = {"/".join(file.path.split("/")[:2]) for contents in kept for file in contents.files}
    return [
        leftover
        for place, form in _PLACES.items()
        for leftover in _measured(root, place)
        if leftover.path not in named and form.fullmatch(Path(leftover.path).name)
    ]


def measure(root: Path, path: str) -> Leftover:
    """What deleting a path would free."""
    entry = root / path
    every = [entry] if not entry.is_dir() or entry.is_symlink() else entry.rglob("*")
    sizes = [file.lstat().st_size for file in every if file.is_symlink() or not file.is_dir()]
    return Leftover(path, len(sizes), sum(sizes))


def _measured(root: Path, place: str) -> Iterator[Leftover]:
    if (root / place).is_dir():
        for entry in sorted((root / place).iterdir()):
            if not entry.name.startswith("."):
                yield measure(root, f"{place}/{entry.name}")
