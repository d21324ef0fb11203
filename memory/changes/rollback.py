"""Rollback: the contents of an older version, committed as a new and higher one. Nothing is rewritten."""

from dataclasses import dataclass
from pathlib import Path

from memory.changes.receipts import list_receipts
from memory.format.manifest import Contents, Manifest
from memory.format.publish import BuildLock, publish_next
from memory.format.removed import read_removed, write_removed
from memory.format.stamps import Stamps
from memory.format.versions import read_manifest
from memory.verify import check_files


@dataclass(frozen=True)
class Rollback:
    """What a rollback did.

    Attributes:
        before: the version that was the latest.
        after: the new one, of the contents asked for; `before` where it had them already.
        created: whether `after` is new.
    """

    before: Manifest
    after: Manifest
    created: bool


def roll_back(root: Path, version: int, *, stamps: Path | None = None) -> Rollback:
    """Commit what `version` holds as the next version: items added since are gone, items removed since are back.

    Raises:
        VersionNotFound: no such version; gc or purge may have dropped it.
        MemoryFileError: a file of it is missing or damaged; nothing is changed.
        Locked, WriteFailed, VersionTaken: nothing is changed.
    """
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root):
        before = read_manifest(root)
        wanted = read_manifest(root, version)
        if wanted.digest == before.digest:
            return Rollback(before, before, created=False)
        check_files(root, wanted.files, stamps=Stamps(stamps, root) if stamps else None)
        changes = {name: getattr(wanted, name) for name in Contents.__dataclass_fields__}
        # A key that was purged stays out of later builds, whatever version is gone back to.
        purged = {bytes.fromhex(key) for receipt in list_receipts(root) for key in receipt.keys_sha256}
        changes["removed"] = write_removed(root, read_removed(root, wanted) | (purged & read_removed(root, before)))
        return Rollback(before, publish_next(root, before, **changes), created=True)
