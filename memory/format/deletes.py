"""Delete lists: the row ids one commit took out. numpy only.

deletes/<id>.npy      (n,) int64, ascending, unique; id = hash of the file
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from memory.errors import RowsInvalid, SegmentInvalid
from memory.format.manifest import DeleteRecord, deletes_path
from memory.format.named_arrays import write_named


def write_deletes(root: Path, ids: Sequence[int] | NDArray[np.int64]) -> DeleteRecord:
    """Write a delete list; the same ids give the same record.

    Raises:
        RowsInvalid: no ids, or negative ones.
    """
    rows = np.unique(np.asarray(ids, dtype=np.int64))
    if rows.size == 0 or rows[0] < 0:
        raise RowsInvalid("a delete list needs at least one id, and ids are not negative")
    deletes_id, record = write_named(root, rows, deletes_path)
    return DeleteRecord(deletes_id, len(rows), (record,))


def read_deletes(root: Path, records: Sequence[DeleteRecord], *, num_rows: int) -> NDArray[np.int64]:
    """All deleted ids of a version, ascending.

    Raises:
        SegmentInvalid: a list is not ascending, names ids outside the memory, or two lists name the same id.
    """
    lists = [_read_one(root, record) for record in records]
    every = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *lists]))
    if every.size and (every[0] < 0 or every[-1] >= num_rows or (np.diff(every) == 0).any()):
        raise SegmentInvalid("deletes", f"ids are named twice or lie outside the {num_rows} rows of this memory")
    return every


def _read_one(root: Path, record: DeleteRecord) -> NDArray[np.int64]:
    path = root / deletes_path(record.id)
    try:
        ids: NDArray[np.int64] = np.array(npy.open_memmap(path, mode="r"))
    except (ValueError, OSError, EOFError) as error:
        raise SegmentInvalid(path, f"cannot be read: {error}") from error
    if ids.dtype != np.int64 or ids.shape != (record.rows,):
        raise SegmentInvalid(path, f"holds {ids.dtype}{list(ids.shape)}, expected int64[{record.rows}]")
    return ids
