"""The keys that were taken out of a memory, as hashes: no later build brings them back unless told to. numpy only.

removed/<id>.npy      (n, 32) uint8, SHA-256 of each key's UTF-8 bytes, ascending, unique; id = hash of the file
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from memory.errors import SegmentInvalid
from memory.format.manifest import Contents, RemovedRecord, removed_path
from memory.format.named_arrays import write_named

HASH_BYTES = 32


def key_hash(key: str) -> bytes:
    """SHA-256 of a key; what is no Unicode, as a command line may have it, is no stored key and hashes all the same."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def write_removed(root: Path, hashes: Iterable[bytes]) -> RemovedRecord | None:
    """Write the hashes of the keys that were taken out; the same keys give the same record, no keys give None.

    Raises:
        WriteFailed: disk full or I/O error; nothing is kept.
        ShardSizeMismatch: a list of this name exists and is damaged.
    """
    ordered = sorted(set(hashes))
    if not ordered:
        return None
    array = np.frombuffer(b"".join(ordered), dtype=np.uint8).reshape(-1, HASH_BYTES)
    removed_id, record = write_named(root, array, removed_path)
    return RemovedRecord(removed_id, len(ordered), (record,))


def read_removed(root: Path, contents: Contents) -> frozenset[bytes]:
    """Hashes of the keys that were taken out of a version.

    Raises:
        SegmentInvalid: the list has another form, or is not ascending.
    """
    record = contents.removed
    if record is None:
        return frozenset()
    path = root / removed_path(record.id)
    try:
        array = np.array(npy.open_memmap(path, mode="r"))
    except (ValueError, OSError, EOFError) as error:
        raise SegmentInvalid(path, f"cannot be read: {error}") from error
    if array.dtype != np.uint8 or array.shape != (record.keys, HASH_BYTES):
        raise SegmentInvalid(
            path, f"holds {array.dtype}{list(array.shape)}, expected uint8[{record.keys}, {HASH_BYTES}]"
        )
    data = array.tobytes()
    hashes = [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]
    if hashes != sorted(set(hashes)):
        raise SegmentInvalid(path, "its hashes are not ascending or not unique")
    return frozenset(hashes)
