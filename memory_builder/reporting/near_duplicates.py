"""Images that a build adds although the memory holds nearly the same: a report, in work/near_duplicates.jsonl. numpy.

Small memories, and few rows that are added, are compared pair by pair. Others by random hyperplanes: rows that are
nearly equal fall, in one of several tables, into the same cell and next to each other along one more direction. Of
pairs at the threshold a few in a hundred are missed; of copies none, unless many images share one embedding.
N rows of the memory, D embedding dim.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory import SegmentRecord
from memory.format.durable import write_file
from memory.format.manifest import segment_directory
from memory.format.segments import EMBEDDING_FILES, open_embeddings
from memory.format.work_files import NEAR_DUPLICATES
from memory.searching.stored_rows import StoredRows

EXACT_PAIRS = 100_000_000  # so many are compared in about a second
FEW_ADDED = 800  # with so many rows, hashing each row that was there costs as much as comparing it with them all

_BLOCK = 2048  # rows: 16 MiB of similarities to as many others
_TABLES, _BITS = 16, 16
_NEXT = 8  # rows compared with each, in the order of a table
_HASHED_BYTES = _TABLES * 6 + 48  # a row: its cells, its places along the directions, and the order of one table
_ROUNDING = 5e-4  # fp16 rows: a copy comes out just below 1


@dataclass(frozen=True)
class AddedDuplicates:
    """What was found.

    Attributes:
        rows: added rows whose image is nearly that of an earlier row.
        copies: of these, rows whose image file is that of the earlier row, byte for byte.
    """

    rows: int
    copies: int


def is_compared(rows: int, added: int) -> bool:
    """Whether each added row is compared with every one of `rows`; else all are hashed, what was there with them."""
    return added <= FEW_ADDED or rows * added <= EXACT_PAIRS


def used_ram(rows: int, added: int) -> int:
    """Bytes that the report of so many rows holds at most, over what a block takes."""
    return 0 if is_compared(rows, added) else rows * _HASHED_BYTES


def report_near_duplicates(
    root: Path, segments: Sequence[SegmentRecord], added: int, cosine: float, *, gone: Collection[int] = ()
) -> AddedDuplicates:
    """Find near-duplicates among the rows that a build adds, and write the report.

    Args:
        root: the memory's directory.
        segments: all of the version, those that are added last.
        added: how many segments are added.
        cosine: similarity of two images from which on they count as nearly the same.
        gone: ids of rows that are deleted: nothing is a duplicate of those.
    """
    old = sum(segment.rows for segment in segments[: len(segments) - added])
    rows = StoredRows([_image_rows(root, segment) for segment in segments])
    alive = np.ones(len(rows), dtype=np.bool_)
    alive[np.fromiter(gone, dtype=np.int64)] = False
    find = _compared if is_compared(len(rows), len(rows) - old) else _hashed
    first = dict(sorted(find(rows, alive, old, cosine).items()))
    items = _items(root, segments, {row for late, (early, _) in first.items() for row in (late, early)})
    groups = _grouped(first)
    copies = sum(items[late][1] == items[early][1] for late, (early, _) in first.items())
    write_file(
        root / NEAR_DUPLICATES,
        lambda stream: [stream.write(line) for line in _lines(groups, first, items)],
        replace=True,
    )
    return AddedDuplicates(len(first), copies)


Pairs = dict[int, tuple[int, float]]
"""By row: an earlier row that is alive and nearly the same, the most similar one found, and the cosine."""


def _compared(rows: StoredRows, alive: NDArray[np.bool_], old: int, cosine: float) -> Pairs:
    """Every added row with every earlier one; (N,) `alive`."""
    found: Pairs = {}
    for start, block in rows.blocks(old, _BLOCK):
        numbers = np.arange(start, start + len(block))
        best, nearest = np.full(len(block), -1.0, dtype=np.float32), np.zeros(len(block), dtype=np.int64)
        for first, earlier in rows.blocks(rows=_BLOCK):
            if first >= start + len(block):
                break
            similar = block @ earlier.T  # (b, e)
            similar[np.arange(first, first + len(earlier))[None] >= numbers[:, None]] = -1.0
            similar[:, ~alive[first : first + len(earlier)]] = -1.0
            at = similar.argmax(axis=1)
            value = similar[np.arange(len(block)), at]
            better = value > best
            best[better], nearest[better] = value[better], first + at[better]
        for row in np.flatnonzero(best >= cosine - _ROUNDING):
            found[start + int(row)] = int(nearest[row]), float(best[row])
    return found


def _hashed(rows: StoredRows, alive: NDArray[np.bool_], old: int, cosine: float) -> Pairs:
    """Added rows with rows beside them in each table; (N,) `alive`."""
    cells, along = _cells(rows)  # (N, T) each
    found: Pairs = {}
    for table in range(_TABLES):
        order = np.lexsort((along[:, table], cells[:, table]))
        order = order[alive[order]]
        for step in range(1, _NEXT + 1):
            left, right = order[:-step], order[step:]
            near = (cells[left, table] == cells[right, table]) & (np.maximum(left, right) >= old)
            early, late = np.minimum(left[near], right[near]), np.maximum(left[near], right[near])
            for first in range(0, len(early), _BLOCK):
                some = slice(first, first + _BLOCK)
                pair = (rows.take(ids[some]).astype(np.float32) for ids in (early, late))
                similar = np.einsum("nd,nd->n", *pair)
                for at in np.flatnonzero(similar >= cosine - _ROUNDING):
                    row, value = int(late[some][at]), float(similar[at])
                    if row not in found or value > found[row][1]:
                        found[row] = int(early[some][at]), value
    return found


def _cells(rows: StoredRows) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """The cell of each row in each table, and where it lies along one more direction: (N, T) each."""
    mean = np.mean(
        [block.mean(axis=0) for _, block in rows.blocks(rows=_BLOCK)], axis=0
    )  # CLIP's embeddings lie in a cone
    dice = np.random.default_rng(0)
    planes = dice.standard_normal((len(mean), _TABLES * _BITS), dtype=np.float32)
    directions = dice.standard_normal((len(mean), _TABLES), dtype=np.float32)
    powers = (1 << np.arange(_BITS)).astype(np.uint32)
    cells = np.empty((len(rows), _TABLES), dtype=np.uint16)
    along = np.empty((len(rows), _TABLES), dtype=np.float32)
    for first, block in rows.blocks(rows=_BLOCK):
        centred = block - mean
        sides = (centred @ planes > 0).reshape(len(block), _TABLES, _BITS)
        cells[first : first + len(block)] = (sides @ powers).astype(np.uint16)
        along[first : first + len(block)] = centred @ directions
    return cells, along


def _grouped(first: Pairs) -> dict[int, list[int]]:
    """The rows of each group but its earliest, by that one; `first` is in ascending order.

    Frames of a film, and copies of one picture, are a chain that may be as long as the memory: it is walked once.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    leaders: dict[int, int] = {}
    for late, (early, _) in first.items():
        leaders[late] = leaders.get(early, early)
        groups[leaders[late]].append(late)
    return groups


def _lines(groups: dict[int, list[int]], first: Pairs, items: dict[int, tuple[str, str]]) -> Iterator[bytes]:
    """A line for each row of each group, the earliest first; one key a line, so that a purge can take it out."""
    for number, (leader, members) in enumerate(sorted(groups.items())):
        yield _line({"group": number, "key": items[leader][0]})
        for row in members:
            early, similarity = first[row]
            copy = items[row][1] == items[early][1]
            yield _line({"group": number, "key": items[row][0], "cosine": round(similarity, 4), "copy": copy})


def _line(values: dict[str, object]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _items(root: Path, segments: Sequence[SegmentRecord], wanted: set[int]) -> dict[int, tuple[str, str]]:
    """Key and content hash of some rows."""
    found: dict[int, tuple[str, str]] = {}
    base = 0
    for segment in segments:
        rows = sorted(row - base for row in wanted if base <= row < base + segment.rows)
        if rows:
            with pa.memory_map(str(root / segment_directory(segment.id) / "items.arrow"), "r") as file:
                table = pa.ipc.open_file(file).read_all().select(["key", "content_sha256"]).take(rows)
            pairs = zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)
            found.update(zip((base + row for row in rows), pairs, strict=True))
        base += segment.rows
    return found


def _image_rows(root: Path, segment: SegmentRecord) -> NDArray[np.float16]:
    return open_embeddings(root / segment_directory(segment.id) / EMBEDDING_FILES["image"], segment.rows)
