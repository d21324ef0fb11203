"""Stamps: which files were hashed already on this host, so that the next open need not read them again.

Kept outside the memory, one small JSON file per memory. A stamp holds if device, inode, size, mtime (ns)
and the expected SHA-256 are all as when the file was hashed. Losing stamps costs time, never correctness.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from memory.errors import MemoryStoreError
from memory.format.durable import make_directory, write_bytes

Stamp = tuple[int, int, int, int, str]  # device, inode, size, mtime_ns, sha256
_MAX_BYTES: Final = 64 << 20
_log = logging.getLogger(__name__)


def default_stamp_directory(environment: Mapping[str, str]) -> Path:
    """Where stamps live by default: `$XDG_CACHE_HOME/reco`, or `~/.cache/reco`.

    Args:
        environment: `os.environ` of the entry point, the only place that reads it.
    """
    cache = environment.get("XDG_CACHE_HOME", "")
    # the XDG specification says to ignore relative paths
    base = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return base / "reco"


def default_copy_directory(environment: Mapping[str, str]) -> Path:
    """Where copies of memories from object stores live by default: beside the stamps."""
    return default_stamp_directory(environment) / "memories"


def stamp_of(status: os.stat_result, sha256: str) -> Stamp:
    """The stamp of an opened file whose bytes have that hash."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, sha256)


class Stamps:
    """The stamps of one memory on this host."""

    def __init__(self, directory: Path, root: Path) -> None:
        # Device and inode numbers mean something on one host only, and home directories are shared.
        name = hashlib.sha256(f"{platform.node()}\0{root.resolve()}".encode()).hexdigest()
        self._path = directory / f"verified-{name[:32]}.json"

    def load(self) -> dict[str, Stamp]:
        """Stamps by path; empty if there are none or they cannot be read."""
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                return {}
            entries = json.loads(self._path.read_bytes())
            return {
                str(path): (int(dev), int(ino), int(size), int(mtime_ns), str(sha256))
                for path, (dev, ino, size, mtime_ns, sha256) in entries.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def save(self, stamps: Mapping[str, Stamp]) -> None:
        """Keep stamps, if this host lets us: a read-only home must not keep a memory from opening."""
        try:
            make_directory(self._path.parent)
            data = json.dumps(stamps, sort_keys=True, separators=(",", ":")).encode()
            write_bytes(self._path, data, replace=True)
        except (OSError, MemoryStoreError) as error:
            _log.warning("hashes will be checked again on the next open: stamps cannot be kept: %s", error)
