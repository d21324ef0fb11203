"""The commit: one version becomes visible, whole, or does not. No FAISS, no pyarrow.

A version number is taken with link(), which fails if the name exists: of two builders one wins, and the
other learns it. What a manifest names is on disk and durable before the manifest is.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from memory.errors import Locked, ShardSizeMismatch, VersionTaken, WriteFailed
from memory.format.durable import make_directory, sweep_temporaries, write_bytes
from memory.format.manifest import Contents, Manifest, serialise
from memory.format.manifest_parser import parse_manifest
from memory.format.plain_files import open_plain
from memory.format.strict_json import canonical_bytes
from memory.format.versions import latest_version, manifest_path
from memory.format.work_files import LOCK, WORK
from memory.format.workers import sweep_units

# Where killed writers leave files under temporary names.
_WRITTEN: Final = (".", "deletes", "indexes", "manifests", "receipts", "removed", "segments", WORK)


def publish(root: Path, contents: Contents) -> Manifest:
    """Commit a version: number `contents.parent` + 1, or 1.

    Args:
        root: the memory's directory.
        contents: what the version holds; its files are written already. `parent` is the version that was
            the latest when the work began, so that a builder which was overtaken cannot commit over the
            other's work.

    Raises:
        VersionTaken: another builder committed since; nothing is changed.
        ManifestInvalid: the contents contradict themselves; opening would refuse them.
        FileMissing, ShardSizeMismatch: a file they name is not there as written.
        WriteFailed: disk full or I/O error.
    """
    version = (contents.parent or 0) + 1
    values: Mapping[str, Any] = {item.name: getattr(contents, item.name) for item in fields(Contents)}
    data = serialise(Manifest(version=version, **values))
    manifest = parse_manifest(data, version=version)  # what open would refuse is not committed
    for file in manifest.files:
        _check_size(root, file.path, file.bytes)
    make_directory(root / "manifests")
    # link() below settles a race for this number; this settles a parent that is no longer the latest.
    if latest_version(root) != contents.parent:
        raise _taken(root, version)
    try:
        write_bytes(root / manifest_path(version), data)
    except FileExistsError as error:
        raise _taken(root, version) from error
    repair_head(root)
    return manifest


def following(manifest: Manifest, **changes: Any) -> Contents:
    """What a version holds, changed in the fields of `Contents` named: the contents of the version after it."""
    values = {item.name: getattr(manifest, item.name) for item in fields(Contents)}
    return Contents(**{**values, **changes, "parent": manifest.version})


def publish_next(root: Path, manifest: Manifest, **changes: Any) -> Manifest:
    """`publish` for what is `following` the latest version."""
    return publish(root, following(manifest, **changes))


def repair_head(root: Path) -> None:
    """Make `HEAD` name the highest version; a crash between commit and HEAD leaves it one behind."""
    version = latest_version(root)
    if version is None:
        return
    expected = canonical_bytes({"version": version, "manifest": manifest_path(version)})
    head = root / "HEAD"
    if not head.is_file() or head.is_symlink() or head.read_bytes() != expected:
        write_bytes(head, expected, replace=True)


class BuildLock:
    """Opens a memory for writing: one process at a time, for the length of a `with` block.

    On entry it also repairs what a killed writer left behind: `HEAD`, and files under temporary names. The
    kernel drops the lock when the process ends, however it ends.

    Raises:
        Locked: at once, if another process holds it.
        WriteFailed: the lock cannot be had: the memory is another user's, or on a file system that takes no writes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptor: int | None = None

    def __enter__(self) -> "BuildLock":
        make_directory(self._root / WORK)
        self._descriptor = self._locked()
        try:
            for name in _WRITTEN:
                sweep_temporaries(self._root / name)
            sweep_units(self._root)
            repair_head(self._root)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release()

    def _locked(self) -> int:
        descriptor = None
        try:
            descriptor = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise Locked(f"another process is writing to {self._root}. Wait for it, or stop it.") from error
            raise WriteFailed(
                f"{self._root / LOCK} cannot be locked: {error.strerror or error}. Nothing was changed; whoever "
                "changes a memory needs to be allowed to write to all of it."
            ) from error
        return descriptor

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # the lock goes with it; the file stays, or two could hold "the" lock
            self._descriptor = None


def _check_size(root: Path, path: str, expected: int) -> None:
    descriptor = open_plain(root, path)
    try:
        found = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if found != expected:
        raise ShardSizeMismatch(path, f"has {found} bytes, {expected} were written")


def _taken(root: Path, version: int) -> VersionTaken:
    return VersionTaken(
        f"version {version} of {root} cannot be committed: the latest is {latest_version(root)}. "
        "Another builder finished first; run the same command again, what was encoded is kept."
    )
