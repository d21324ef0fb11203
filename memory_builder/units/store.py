"""Finished units on disk until a version holds them, complete or not there. numpy, pyarrow, memory.

work/units/<id>/ image.f16.npy  text.f16.npy  items.arrow  rejected.jsonl  unit.json (hashes of the rest)
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memory import ITEMS_SCHEMA, Rows
from memory.format.durable import (
    HashingWriter,
    commit_directory,
    make_directory,
    staging_directory,
    sweep_temporaries,
    write_bytes,
    write_file,
)
from memory.format.work_files import UNIT_DESCRIPTION, UNIT_IMAGE, UNIT_ITEMS, UNIT_REJECTED, UNIT_TEXT, UNITS
from memory.format.workers import sweep_units
from memory_builder.encoding.begun import BegunUnit
from memory_builder.encoding.mapper import MappedUnit
from memory_builder.records import Rejected

_FORMAT = 1


class UnitStore:
    """The finished units of a memory's work folder: for the holder of the build lock, and who works for it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / UNITS
        make_directory(self._directory)

    def sweep(self) -> None:
        """Remove what a killed build left half-written: before any worker of this build begins."""
        sweep_units(self._root)
        sweep_temporaries(self._directory.parent)  # the ledger is written there

    def __contains__(self, unit_id: str) -> bool:
        return (self._directory / unit_id).is_dir()

    def save(self, unit_id: str, unit: MappedUnit) -> None:
        """Write a unit durably, in place of what may be there under its name.

        Raises:
            memory.WriteFailed: disk full or I/O error; nothing is kept.
        """
        self.remove([unit_id])
        self.save_once(unit_id, unit)

    def save_once(self, unit_id: str, unit: MappedUnit) -> None:
        """Write a unit durably, unless another worker has finished it meanwhile: its files hold the same.

        Raises:
            memory.WriteFailed: as `save`.
        """
        with staging_directory(self._directory) as staging:
            files = {
                UNIT_IMAGE: write_file(staging / UNIT_IMAGE, lambda stream: _save_array(stream, unit.rows.image)),
                UNIT_TEXT: write_file(staging / UNIT_TEXT, lambda stream: _save_array(stream, unit.rows.text)),
                UNIT_ITEMS: write_file(staging / UNIT_ITEMS, lambda stream: _save_items(stream, unit.rows.items)),
                UNIT_REJECTED: write_bytes(staging / UNIT_REJECTED, rejected_lines(unit.rejected)),
            }
            description = {
                "format": _FORMAT,
                "id": unit_id,
                "files": {name: written.sha256 for name, written in files.items()},
            }
            write_bytes(staging / UNIT_DESCRIPTION, json.dumps(description, sort_keys=True, indent=1).encode() + b"\n")
            commit_directory(staging, self._directory / unit_id)

    def load(self, unit_id: str) -> MappedUnit | None:
        """A finished unit, files hashed and embeddings memory-mapped; None if it is absent or not whole."""
        directory = self._directory / unit_id
        try:
            description = json.loads((directory / UNIT_DESCRIPTION).read_bytes())
            if description["format"] != _FORMAT or description["id"] != unit_id:
                return None
            for name in (UNIT_IMAGE, UNIT_TEXT, UNIT_ITEMS, UNIT_REJECTED):
                if _sha256(directory / name) != description["files"][name]:
                    return None
            rows = Rows(
                image=np.load(directory / UNIT_IMAGE, mmap_mode="r", allow_pickle=False),
                text=np.load(directory / UNIT_TEXT, mmap_mode="r", allow_pickle=False),
                items=pa.ipc.open_file(pa.memory_map(str(directory / UNIT_ITEMS))).read_all(),
            )
            return MappedUnit(rows, tuple(self.rejected(unit_id)))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return None

    def begun(self, unit_id: str) -> BegunUnit:
        """What of a unit was done when an earlier run was stopped."""
        return BegunUnit.load(self._directory / unit_id)

    def keep_begun(self, unit_id: str, begun: BegunUnit) -> None:
        """Write what is done of a unit that will not be finished now; `save` takes it away.

        Raises:
            memory.WriteFailed: as `save`.
        """
        begun.save(self._directory / unit_id)

    def rejected(self, unit_id: str) -> list[Rejected]:
        """The rejected rows of a finished unit."""
        lines = (self._directory / unit_id / UNIT_REJECTED).read_text(encoding="utf-8").splitlines()
        return [Rejected(**json.loads(line)) for line in lines]

    def remove(self, unit_ids: Iterable[str]) -> None:
        """Delete units, finished or not; those that are not there are no error."""
        for unit_id in unit_ids:
            # Its description first: a removal that is cut short must not leave a unit that looks finished.
            (self._directory / unit_id / UNIT_DESCRIPTION).unlink(missing_ok=True)
            shutil.rmtree(self._directory / unit_id, ignore_errors=True)

    def without_rows(self, corpora: Collection[str]) -> set[str]:
        """Finished units of these corpora, by the first row's key, of which no row is to be stored."""
        return {unit_id for unit_id in self.ids() if self._corpus_of_rowless(self._directory / unit_id) in corpora}

    def _corpus_of_rowless(self, directory: Path) -> str | None:
        try:
            if not (directory / UNIT_DESCRIPTION).exists() or len(np.load(directory / UNIT_IMAGE, mmap_mode="r")):
                return None
            with (directory / UNIT_REJECTED).open(encoding="utf-8") as rows:
                key: str = json.loads(rows.readline())["key"]
            return key.partition("/")[0]
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):  # damaged: nobody can tell whose
            return None

    def ids(self) -> list[str]:
        """Names of the units that are there."""
        return sorted(entry.name for entry in self._directory.iterdir() if not entry.name.startswith("."))


def rejected_lines(rejected: Iterable[Rejected]) -> bytes:
    """Rejected rows as JSON lines."""
    return b"".join(json.dumps(asdict(row), sort_keys=True).encode() + b"\n" for row in rejected)


def _save_array(stream: HashingWriter, array: Any) -> None:
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def _save_items(stream: HashingWriter, items: pa.Table) -> None:
    with pa.PythonFile(stream, mode="w") as sink, pa.ipc.new_file(sink, ITEMS_SCHEMA) as writer:
        writer.write_table(items)


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
