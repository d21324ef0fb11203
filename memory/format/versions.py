"""Which versions a memory has, and reading their manifests. No FAISS, no pyarrow.

The highest number is the memory. `HEAD` only says so for people and scripts; nothing here reads it.
"""

import os
import re
from pathlib import Path
from typing import Final

from memory.errors import FileMissing, ManifestInvalid, MemoryNotFound, VersionNotFound
from memory.format.manifest import Manifest
from memory.format.manifest_parser import MAX_MANIFEST_BYTES, parse_manifest
from memory.format.plain_files import open_plain

_NAME: Final = re.compile(r"([0-9]{8})\.json")


def manifest_path(version: int) -> str:
    """Path of a manifest, relative to the memory."""
    return f"manifests/{version:08d}.json"


def version_of(name: str) -> int | None:
    """The version that a manifest's file name stands for; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def list_versions(root: Path) -> list[int]:
    """Committed versions, ascending; empty where there is no memory. Temporary names are not versions.

    Raises:
        ManifestInvalid: they may not be listed, or cannot be.
    """
    try:
        names = [entry.name for entry in (root / "manifests").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ManifestInvalid(f"the versions of {root} cannot be listed: {error.strerror or error}") from error
    return sorted(version for name in names if (version := version_of(name)) is not None)


def latest_version(root: Path) -> int | None:
    """The highest committed version, or None."""
    versions = list_versions(root)
    return versions[-1] if versions else None


def read_manifest(root: Path, version: int | None = None) -> Manifest:
    """Read one version's manifest: the highest, unless a version is named.

    A highest manifest that is damaged is an error, not a reason to serve an older one in silence.

    Raises:
        MemoryNotFound: no version at all.
        VersionNotFound: not that one.
        ManifestInvalid: the file is damaged, too large or not plain.
    """
    versions = list_versions(root)
    if not versions:
        raise MemoryNotFound(f"{root} holds no memory. Build one with `reco build`, or check the path.")
    chosen = versions[-1] if version is None else version
    if chosen not in versions:
        raise VersionNotFound(f"{root} has no version {chosen}; it has {_ranges(versions)}")
    try:
        descriptor = open_plain(root, manifest_path(chosen))
    except FileMissing as error:
        raise VersionNotFound(f"version {chosen} vanished while it was opened") from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        return parse_manifest(data, version=chosen)
    except ManifestInvalid as error:
        if version is not None or len(versions) == 1:
            raise
        raise ManifestInvalid(
            f"{error}. Older versions are still there ({_ranges(versions[:-1])}): name one to open it."
        ) from error


def _ranges(versions: list[int]) -> str:
    return f"{versions[0]} to {versions[-1]}" if len(versions) > 1 else str(versions[0])
