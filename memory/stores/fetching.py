"""A memory in an object store, as a copy in a folder of this host that is whole and checked before anything opens it.

The copy is a memory like any other. Files of the newest version that it lacks are fetched, each into a part that an
interrupted fetch goes on from, and enter it under their names once their SHA-256 is the manifest's; the manifest comes
last. Earlier versions stay until `reco memory gc` of the copy. Imports of ours: this room.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memory.errors import (
    FileMissing,
    Locked,
    ManifestInvalid,
    MemoryNotFound,
    ObjectMissing,
    ShardHashMismatch,
    WriteFailed,
)
from memory.format.durable import fsync_directory, make_directory, write_bytes
from memory.format.manifest import FileRecord, Manifest
from memory.format.manifest_parser import MAX_MANIFEST_BYTES, parse_manifest
from memory.format.publish import BuildLock, repair_head
from memory.format.stamps import Stamp, Stamps, stamp_of
from memory.format.versions import list_versions, manifest_path, version_of
from memory.stores.address import check_address, check_schemes
from memory.stores.stored import StoredFolder

_CHUNK_BYTES: Final = 8 << 20
_FILES_AT_ONCE: Final = 4
_PARTS: Final = "work/fetched"
_LOOK_S: Final = 0.5  # between two looks whether another process has fetched the version

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteMemories:
    """Where memories may be fetched from, and where their copies are.

    Attributes:
        allowed: schemes, of SCHEMES.
        directory: of the copies: a folder for each address.
        stamps: as in Memory.open: what was checked while it came is not hashed again when it is opened.
        report: told the bytes that are here and all that the version has.
    """

    allowed: tuple[str, ...]
    directory: Path
    stamps: Path | None = None
    report: Report = lambda done, total: None

    def copy_of(self, address: str) -> Path:
        """The folder that an address is copied to, whether it is there or not.

        Raises:
            StoreRefused: the scheme is not allowed.
        """
        address = check_address(address, check_schemes(self.allowed))
        digest = hashlib.sha256(address.encode()).hexdigest()[:16]
        return self.directory / f"{address.rpartition('/')[2][:60]}-{digest}"

    def fetch(self, address: str) -> Path:
        """Have the newest version of a memory here.

        Returns:
            The copy's folder, whose newest version is the store's.

        Raises:
            StoreRefused, StoreUnavailable: the store cannot be read.
            MemoryNotFound, ManifestInvalid, FileMissing, ShardHashMismatch: what is there is no whole memory. Nothing
                of it entered the copy.
            WriteFailed: the disk is full.
        """
        root = self.copy_of(address)
        store = StoredFolder(check_address(address, self.allowed))
        version = _newest(store)
        data = _read_manifest(store, version)
        manifest = parse_manifest(data, version=version)
        while not _has(root, manifest, data):
            try:
                with BuildLock(root):
                    self._take(store, root, manifest, data)
            except Locked:  # another process of this host fetches it, or a gc is at work
                time.sleep(_LOOK_S)
        return root

    def _take(self, store: StoredFolder, root: Path, manifest: Manifest, data: bytes) -> None:
        """Fetch what is not here, then the manifest; under the lock."""
        stamps = Stamps(self.stamps, root) if self.stamps else None
        known = stamps.load() if stamps else {}
        missing = [file for file in manifest.files if not _is_here(root, file)]
        _check_space(root, missing)
        fetched = _Fetched(self.report, sum(file.bytes for file in manifest.files))
        fetched.add(sum(file.bytes for file in manifest.files) - sum(file.bytes for file in missing))
        with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="reco-fetch") as pool:
            coming = {pool.submit(_fetch_file, store, root, file, fetched): file for file in missing}
            try:
                wait(coming, return_when=FIRST_EXCEPTION)
                known.update({coming[future].path: future.result() for future in coming if future.done()})
            finally:  # also when the user presses Ctrl-C: what has come stays as parts
                fetched.stopped.set()
                pool.shutdown(cancel_futures=True)
        if stamps:
            stamps.save(known)
        _drop_other(root, manifest.version)
        make_directory(root / "manifests")
        write_bytes(root / manifest_path(manifest.version), data)
        repair_head(root)
        shutil.rmtree(root / _PARTS, ignore_errors=True)


def newest_remote_version(address: str, allowed: Sequence[str]) -> int:
    """The number of the newest version in the store; one listing.

    Raises:
        StoreRefused, StoreUnavailable, MemoryNotFound.
    """
    return _newest(StoredFolder(check_address(address, allowed)))


class _Stopped(Exception):  # noqa: N818  named by what happened
    """Another file could not be fetched, or the user wants no more."""


class _Fetched:
    """Bytes that are here, counted by several threads, and whether they shall end."""

    def __init__(self, report: Report, total: int) -> None:
        self.stopped = threading.Event()
        self._report, self._total, self._done = report, total, 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._report(self._done, self._total)


def _newest(store: StoredFolder) -> int:
    manifests = store / "manifests"
    versions = [version_of(name) for name in StoredFolder(str(manifests)).objects()]
    newest = max((version for version in versions if version is not None), default=None)
    if newest is None:
        raise MemoryNotFound(f"{store} holds no memory: there is no {manifests}/00000001.json or later.")
    return newest


def _read_manifest(store: StoredFolder, version: int) -> bytes:
    """A manifest's bytes, which parse.

    Raises:
        ManifestInvalid.
    """
    data = (store / manifest_path(version)).read(0, MAX_MANIFEST_BYTES + 1)
    try:
        parse_manifest(data, version=version)
    except ManifestInvalid as error:
        raise ManifestInvalid(f"{store}: {error}. Upload it again from the memory it is of.") from error
    return data


def _has(root: Path, manifest: Manifest, data: bytes) -> bool:
    """Whether the copy's newest version is this one, with all its files; opening it looks at their hashes."""
    path = root / manifest_path(manifest.version)
    return (
        list_versions(root)[-1:] == [manifest.version]
        and path.read_bytes() == data
        and all(_is_here(root, file) for file in manifest.files)
    )


def _is_here(root: Path, file: FileRecord) -> bool:
    path = root / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def _drop_other(root: Path, version: int) -> None:
    """Forget versions that the store cannot have had before this one: the address holds another memory now."""
    for other in list_versions(root):
        if other >= version:
            (root / manifest_path(other)).unlink()


def _check_space(root: Path, files: Sequence[FileRecord]) -> None:
    wanted = sum(file.bytes for file in files)
    here = sum(part.stat().st_size for part in (root / _PARTS).glob("*")) if (root / _PARTS).is_dir() else 0
    free = shutil.disk_usage(root).free
    if wanted - here > free:
        raise WriteFailed(
            f"{root}: {(wanted - here) / 1e9:.1f} GB are to be fetched, and {free / 1e9:.1f} GB are free. Free some "
            "space, or have the copies on another disk."
        )


def _fetch_file(store: StoredFolder, root: Path, file: FileRecord, fetched: _Fetched) -> Stamp:
    """Bring one file, checked, under its name; its stamp."""
    make_directory(root / _PARTS)
    part = root / _PARTS / f"{file.path.replace('/', '_')}-{file.sha256[:16]}"
    for attempt in ("what is there goes on", "from its beginning"):
        try:
            found = _fill(store, part, file, fetched)
        except ObjectMissing as error:
            raise FileMissing(f"{store}/{file.path}", "is named by the manifest and is not there") from error
        if found == file.sha256:
            break
        fetched.add(-part.stat().st_size)
        part.unlink()
        if attempt == "from its beginning":
            raise ShardHashMismatch(
                f"{store}/{file.path}", "has other bytes than were committed; upload it again. Nothing of it was used"
            )
    path = root / file.path
    make_directory(path.parent)
    part.rename(path)
    fsync_directory(path.parent)
    return stamp_of(path.stat(), file.sha256)


def _fill(store: StoredFolder, part: Path, file: FileRecord, fetched: _Fetched) -> str:
    """Fetch what a part lacks; SHA-256 of all of it.

    Raises:
        ObjectMissing, StoreRefused, StoreUnavailable: what has come stays.
        WriteFailed.
    """
    sha256 = hashlib.sha256()
    try:
        with part.open("a+b") as stream:
            stream.seek(0)
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                fetched.add(len(chunk))
            while (begin := stream.tell()) < file.bytes:
                if fetched.stopped.is_set():
                    raise _Stopped
                chunk = (store / file.path).read(begin, min(begin + _CHUNK_BYTES, file.bytes))
                if not chunk:
                    break  # it is shorter than it was: the hash says so
                stream.write(chunk)
                sha256.update(chunk)
                fetched.add(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise WriteFailed(f"writing {part} failed: {error.strerror or error}") from error
    return sha256.hexdigest()
