"""Receipts: what a purge took out, kept in the memory without naming it. Standard library only.

receipts/<version>-<12 hex>.json   written before the purge's version is committed (state "begun"), and again when the
last file is gone ("complete"). Keys are told by their SHA-256: who knows a key can find its receipt; no key is in it.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from memory.changes.garbage import Leftover
from memory.errors import ReceiptInvalid
from memory.format.durable import make_directory, remove_durably, write_bytes
from memory.format.work_files import WORK

DIRECTORY: Final = "receipts"
_NAME = re.compile(r"[0-9]{8}-[0-9a-f]{12}\.json")
_FORMAT: Final = 1


@dataclass(frozen=True)
class Receipt:
    """What a purge did, or has begun to do.

    Attributes:
        state: begun, or complete.
        keys_sha256: hex, ascending, of the keys.
        request_sha256: hex, of the names asked for (KeyPatterns.sha256): the same command again is known by it.
        items: items of the memory that were taken out with them; 0 if they had been removed before.
        version_before, version_after: of the memory; equal where the version needed no change.
        digest_after: content digest of that version.
        versions_dropped: versions that held the data and are gone.
        deleted: what was deleted, relative to the memory.
        ledger_lines: lines taken out of the list of rejected rows.
        completed_at: UTC; None until it is complete.
    """

    state: str
    keys_sha256: tuple[str, ...]
    request_sha256: str
    items: int
    version_before: int
    version_after: int
    digest_after: str
    versions_dropped: tuple[int, ...]
    deleted: tuple[Leftover, ...]
    ledger_lines: int = 0
    completed_at: str | None = None

    @property
    def path(self) -> str:
        """Where it lies, relative to the memory."""
        told = hashlib.sha256("".join(self.keys_sha256).encode()).hexdigest()
        return f"{DIRECTORY}/{self.version_after:08d}-{told[:12]}.json"

    def to_json(self) -> dict[str, Any]:
        """As it is printed and stored."""
        totals = {
            "files_deleted": sum(d.files for d in self.deleted),
            "bytes_deleted": sum(d.bytes for d in self.deleted),
        }
        return {"format": _FORMAT, "operation": "purge", "keys": len(self.keys_sha256), **totals, **asdict(self)}


def write_receipt(root: Path, receipt: Receipt) -> None:
    """Write a receipt durably, in place of an earlier state of it."""
    make_directory(root / DIRECTORY)
    data = json.dumps(receipt.to_json(), indent=2).encode() + b"\n"
    write_bytes(root / receipt.path, data, replace=True)


def drop_receipt(root: Path, receipt: Receipt) -> None:
    """Delete the receipt of a purge that never came about."""
    remove_durably(root / receipt.path)


def list_receipts(root: Path) -> list[Receipt]:
    """All receipts, oldest first.

    Raises:
        ReceiptInvalid: one was edited or damaged.
    """
    if not (root / DIRECTORY).is_dir():
        return []
    paths = sorted(path for path in (root / DIRECTORY).iterdir() if _NAME.fullmatch(path.name))
    return [_parse(path) for path in paths]


def covering(receipts: Iterable[Receipt], keys_sha256: Iterable[str]) -> Receipt | None:
    """The newest receipt that names one of the keys."""
    wanted = set(keys_sha256)
    found = [receipt for receipt in receipts if wanted.intersection(receipt.keys_sha256)]
    return found[-1] if found else None


def completed(receipt: Receipt, *, ledger_lines: int, at: str) -> Receipt:
    """The receipt of a purge whose last file is gone."""
    return replace(receipt, state="complete", ledger_lines=receipt.ledger_lines + ledger_lines, completed_at=at)


def _parse(path: Path) -> Receipt:
    try:
        value = json.loads(path.read_bytes())
        fields = {name: value[name] for name in Receipt.__dataclass_fields__}
        for name in ("keys_sha256", "versions_dropped"):
            fields[name] = tuple(fields[name])
        fields["deleted"] = tuple(Leftover(**entry) for entry in fields["deleted"])
        receipt = Receipt(**fields)
        if value["format"] != _FORMAT or value != json.loads(json.dumps(receipt.to_json())):
            raise ValueError("its parts contradict each other")
        if any(_unsafe(entry.path) for entry in receipt.deleted):
            raise ValueError("it names a path outside the places a purge deletes from")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReceiptInvalid(f"{path} is no receipt we wrote: {error}. Move it away, and purge again.") from error
    return receipt


def _unsafe(path: str) -> bool:
    parts = path.split("/")
    places = {"manifests", "segments", "indexes", "deletes", "removed", WORK, "quarantine"}
    return parts[0] not in places or len(parts) < 2 or any(part in ("", ".", "..") for part in parts)
