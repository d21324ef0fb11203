"""Where a key may be found outside every version: a build's work (work_files.py), and files in quarantine. pyarrow.

quarantine/     files that failed their hash, in no known form
"""

import json
import mmap
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from memory.format.durable import write_bytes
from memory.format.removed import key_hash
from memory.format.work_files import KEY_LISTS, UNIT_ITEMS, UNIT_REJECTED, UNITS, WORK, is_known

_QUARANTINE: Final = "quarantine"


def work_keys(root: Path) -> Iterator[str]:
    """Every key that a build's work names."""
    for unit in _entries(root / UNITS):
        yield from _unit_keys(unit) or ()
    for name in KEY_LISTS:
        yield from (key for key in _ledger_keys(root / name) if key is not None)


def units_naming(root: Path, keys: Collection[str]) -> list[str]:
    """Finished units, relative to the memory, that hold one of the keys or cannot be shown not to."""
    found = []
    for unit in _entries(root / UNITS):
        held = _unit_keys(unit)
        if held is None or any(key in keys for key in held):
            found.append(f"{UNITS}/{unit.name}")
    return found


def clean_ledger(root: Path, hashes: Collection[bytes]) -> int:
    """Take lines with a key of one of these hashes out of the lists that builds leave; how many there were."""
    return sum(_clean(root / name, hashes) for name in KEY_LISTS)


def formless(root: Path) -> list[Path]:
    """Files that nobody can read by a known form: all in quarantine, and in the work folder those of unknown names."""
    work = [path for path in (root / WORK).rglob("*") if not is_known(path.relative_to(root).as_posix())]
    every = sorted((*(root / _QUARANTINE).rglob("*"), *work))
    return [path for path in every if path.is_file() and not path.is_symlink()]


def holding(files: Iterable[Path], needles: Iterable[bytes]) -> list[Path]:
    """Those files that hold one of these byte strings."""
    wanted = [needle for needle in needles if needle]
    return [path for path in files if _holds(path, wanted)]


def _clean(path: Path, hashes: Collection[bytes]) -> int:
    if not path.is_file():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    keys = list(_ledger_keys(path))
    kept = [line for line, key in zip(lines, keys, strict=True) if key is not None and key_hash(key) not in hashes]
    if len(kept) < len(lines):
        write_bytes(path, b"".join(kept), replace=True)
    return len(lines) - len(kept)


def _entries(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if entry.is_dir()) if directory.is_dir() else []


def _unit_keys(unit: Path) -> list[str] | None:
    """Keys of the rows of a unit, stored or rejected; None if it cannot be read."""
    try:
        with pa.memory_map(str(unit / UNIT_ITEMS), "r") as source:
            stored = pa.ipc.open_file(source).read_all().column("key").to_pylist()
        rejected = list(_ledger_keys(unit / UNIT_REJECTED))
    except (pa.ArrowException, OSError, KeyError):
        return None
    return None if None in rejected else [*stored, *(key for key in rejected if key is not None)]


def _ledger_keys(path: Path) -> Iterator[str | None]:
    """The key of each line; None where a line is none of ours."""
    lines: list[bytes] = []
    with suppress(FileNotFoundError):
        lines = path.read_bytes().splitlines()
    for line in lines:
        try:
            key = json.loads(line)["key"]
        except (ValueError, KeyError, TypeError):
            key = None
        yield key if isinstance(key, str) else None


def _holds(path: Path, needles: Iterable[bytes]) -> bool:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(data.find(needle) >= 0 for needle in needles)
