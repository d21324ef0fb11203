"""Purge: items and every trace of them, out of every version, at once: the right to be forgotten. numpy, FAISS.

The latest version is compacted without them and committed; every version that held them is dropped; what no remaining
version names is deleted, and so are units, ledger lines and quarantined files that name them. What stays is the SHA-256
of each key: in the list of removed keys, so that no build brings an item back, and in the receipt.

Killed in the middle, the same command goes on: a receipt is written before the commit and says what is to be deleted.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.changes.compaction import MAX_SEGMENT_ROWS, fold, index_anew
from memory.changes.garbage import measure, unreferenced
from memory.changes.holdings import Holdings, readable_versions
from memory.changes.key_patterns import KeyPatterns, is_pattern, told
from memory.changes.receipts import Receipt, completed, covering, drop_receipt, list_receipts, write_receipt
from memory.changes.traces import clean_ledger, formless, holding, units_naming, work_keys
from memory.errors import KeyNotFound
from memory.format.durable import remove_durably
from memory.format.manifest import Contents, Manifest, content_digest
from memory.format.publish import BuildLock, following, publish
from memory.format.removed import key_hash, read_removed, write_removed
from memory.format.versions import manifest_path, read_manifest
from memory.memory import Memory


@dataclass(frozen=True)
class Purge:
    """What a purge did.

    Attributes:
        receipt: of this purge; of an earlier one if nothing was left to do.
        keys: in the clear, for the caller only; nothing stores them.
        already: nothing was there any more.
    """

    receipt: Receipt
    keys: tuple[str, ...]
    already: bool


def purge(
    root: Path, names: KeyPatterns, *, max_segment_rows: int = MAX_SEGMENT_ROWS, stamps: Path | None = None
) -> Purge:
    """Delete the data of some items from every version, and write a receipt.

    Args:
        root: the memory's directory.
        names: keys or patterns of items, of any version; those of removed items too.
        max_segment_rows: as in `compact`.
        stamps: as in `Memory.open`.

    Raises:
        KeyNotFound: a name that no version knows; nothing is changed.
        NothingLeft: no item would be left; nothing is changed.
        Locked, VersionTaken: nothing is changed.
        WriteFailed: run the same command again.
        MemoryStoreError: the latest version cannot be opened.
    """
    read_manifest(root)  # where there is no memory, the lock would make a directory
    with BuildLock(root):
        _finish_begun(root)
        same = [receipt for receipt in list_receipts(root) if receipt.request_sha256 == names.sha256]
        with Memory.open(root, stamps=stamps) as memory:
            latest, deleted = memory.manifest, memory.deleted_ids()
        versions = readable_versions(root)
        holdings = Holdings(root, versions)
        keys = _known_keys(root, names, holdings, latest, again=bool(same))
        if not keys:
            return Purge(same[-1], (), already=True)
        holders, rows = holdings.find(keys)
        in_latest = _ids(latest, rows)
        dropped = np.union1d(in_latest, deleted)
        changes = _changes(root, latest, keys, in_latest, dropped, max_segment_rows)
        contents = following(latest, **changes)
        retired = [v for v, manifest in versions.items() if manifest is None or holders & _segments(manifest)]
        kept: list[Contents] = [m for v, m in versions.items() if m and v not in retired]
        strange = formless(root)
        needles = (*(holdings.needles(rows) if strange else ()), *(key.encode() for key in keys))
        doomed = [
            *(measure(root, manifest_path(version)) for version in retired),
            *unreferenced(root, [*kept, contents]),
            *(measure(root, path) for path in units_naming(root, keys)),
            *(measure(root, path.relative_to(root).as_posix()) for path in holding(strange, needles)),
        ]
        hashes = sorted(key_hash(key).hex() for key in keys)
        earlier = covering(list_receipts(root), hashes)
        if earlier and not changes and not doomed and not _in_ledger(root, keys):
            return Purge(earlier, tuple(sorted(keys)), already=True)
        receipt = Receipt(
            state="begun",
            keys_sha256=tuple(hashes),
            request_sha256=names.sha256,
            items=len(np.setdiff1d(in_latest, deleted)),
            version_before=latest.version,
            version_after=latest.version + bool(changes),
            digest_after=content_digest(contents),
            versions_dropped=tuple(retired),
            deleted=tuple(doomed),
        )
        write_receipt(root, receipt)
        if changes:
            publish(root, contents)
        return Purge(_finish(root, receipt), tuple(sorted(keys)), already=False)


def _known_keys(root: Path, names: KeyPatterns, holdings: Holdings, latest: Manifest, *, again: bool) -> frozenset[str]:
    """The keys that are meant: those found anywhere, and those known to have been taken out before.

    A pattern that names nothing is no error where just this was asked for before: its items are gone.
    """
    matched, unmatched = names.match(chain(holdings.keys(), work_keys(root)))
    gone = read_removed(root, latest)
    told_before = {bytes.fromhex(key) for receipt in list_receipts(root) for key in receipt.keys_sha256}
    known = [name for name in unmatched if key_hash(name) in gone | told_before]
    unknown = [name for name in unmatched if name not in known and not (again and is_pattern(name))]
    if unknown:
        raise KeyNotFound(f"{told(unknown)}: no version of {root} knows such a key, and nothing was purged.")
    return matched.union(known)


def _changes(
    root: Path,
    latest: Manifest,
    keys: frozenset[str],
    in_latest: NDArray[np.int64],
    dropped: NDArray[np.int64],
    max_segment_rows: int,
) -> dict[str, Any]:
    """What the next version has otherwise; nothing if it need not be made. Writes its files."""
    changes: dict[str, Any] = {}
    before = read_removed(root, latest)
    after = before.union(map(key_hash, keys))
    if in_latest.size:
        segments = fold(root, latest, dropped, max_segment_rows=max_segment_rows)
        changes = {"segments": segments, "indexes": index_anew(root, latest, segments), "deletes": ()}
    if after != before:
        changes["removed"] = write_removed(root, after)
    return changes


def _ids(manifest: Manifest, rows: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Ids, ascending, of the rows found in the segments of a version."""
    bases = zip(manifest.segments, manifest.base_rows, strict=True)
    found = [rows[segment.id] + base_row for segment, base_row in bases if segment.id in rows]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _segments(manifest: Manifest) -> set[str]:
    return {segment.id for segment in manifest.segments}


def _in_ledger(root: Path, keys: frozenset[str]) -> bool:
    return any(key in keys for key in work_keys(root))


def _finish_begun(root: Path) -> None:
    """Go on with purges that were killed; forget those whose version never came about."""
    digests = {manifest.digest for manifest in readable_versions(root).values() if manifest}
    for receipt in list_receipts(root):
        if receipt.state == "complete":
            continue
        if receipt.digest_after in digests:
            _finish(root, receipt)
        else:
            drop_receipt(root, receipt)


def _finish(root: Path, receipt: Receipt) -> Receipt:
    """Delete what a receipt says, unless a version committed since names it; manifests first."""
    for version in receipt.versions_dropped:
        remove_durably(root / manifest_path(version))
    named = {"/".join(f.path.split("/")[:2]) for m in readable_versions(root).values() if m for f in m.files}
    for leftover in receipt.deleted:
        if leftover.path not in named and not leftover.path.startswith("manifests/"):
            remove_durably(root / leftover.path)
    lines = clean_ledger(root, {bytes.fromhex(key) for key in receipt.keys_sha256})
    done = completed(receipt, ledger_lines=lines, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    write_receipt(root, done)
    return done
