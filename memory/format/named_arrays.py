"""Small arrays that are named by what they hold: the lists of deleted rows and of removed keys. numpy only."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.format.durable import make_directory, write_bytes
from memory.format.manifest import FileRecord, content_id
from memory.format.segments import check_existing


def write_named(root: Path, array: NDArray[np.generic], path_of: Callable[[str], str]) -> tuple[str, FileRecord]:
    """Write an array to the path that its id gives; the same contents are written once.

    Returns:
        The id, a hash of the file, and its record.

    Raises:
        WriteFailed: disk full or I/O error; nothing is kept.
        ShardSizeMismatch: a file of this name exists and is damaged.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getvalue()
    name = content_id(data)
    record = FileRecord(path_of(name), len(data), hashlib.sha256(data).hexdigest())
    make_directory((root / record.path).parent)
    try:
        write_bytes(root / record.path, data)
    except FileExistsError:
        check_existing(root, [record])
    return name, record
