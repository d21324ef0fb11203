"""Images of a unit that were encoded before a build was stopped, so that the next run need not encode them again.

    work/units/<id>/begun-<hash of its bytes>.arrow      a row for each row of the batches that were done

A batch is known by the numbers of its rows in the unit: what a unit is made of depends on the unit alone, so a batch of
the same numbers has the same images. pyarrow; D embedding dimension.
"""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from memory.format.durable import make_directory, write_bytes
from memory.format.work_files import UNIT_BEGUN
from memory_builder.encoding.decoding import Described, Refused

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    from memory_builder.encoding.lanes.lane import Encoded

    Outcomes = list[Encoded | Refused]

_SCHEMA: Final = pa.schema(
    {
        "batch": pa.int64(),
        "number": pa.int64(),
        "code": pa.string(),  # of a refusal; null for an image that is encoded
        "detail": pa.string(),
        "content_sha256": pa.string(),
        "thumbnail": pa.binary(),
        "embedding": pa.binary(),  # (D,) float16
    }
)


class BegunUnit:
    """The batches of images of one unit that are done."""

    def __init__(self) -> None:
        self._batches: dict[tuple[int, ...], Outcomes] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def num_images(self) -> int:
        """Images of these batches, those that were refused included."""
        return sum(map(len, self._batches))

    def note(self, numbers: Sequence[int], outcomes: "Outcomes") -> None:
        """A batch is done."""
        self._batches[tuple(numbers)] = outcomes

    def outcomes(self, numbers: Sequence[int]) -> "Outcomes | None":
        """Of a batch that is done; None if it is not."""
        return self._batches.get(tuple(numbers))

    def save(self, directory: Path) -> None:
        """Write what is done to the unit's directory, durably, in place of what was there.

        Raises:
            memory.WriteFailed: disk full or I/O error.
        """
        if not self._batches:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, _SCHEMA) as writer:
            for position, (numbers, outcomes) in enumerate(self._batches.items()):
                rows = [_row(position, *pair) for pair in zip(numbers, outcomes, strict=True)]
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        data = sink.getvalue().to_pybytes()
        make_directory(directory)
        earlier = set(directory.glob(UNIT_BEGUN.format("*")))
        path = directory / UNIT_BEGUN.format(hashlib.sha256(data).hexdigest())
        write_bytes(path, data, replace=True)
        for other in earlier - {path}:
            other.unlink()

    @classmethod
    def load(cls, directory: Path) -> "BegunUnit":
        """What an earlier run left in the unit's directory; nothing, if it is not whole."""
        begun = cls()
        for path in directory.glob(UNIT_BEGUN.format("*")):
            data = path.read_bytes()
            if path.name == UNIT_BEGUN.format(hashlib.sha256(data).hexdigest()):
                begun._read(pa.ipc.open_file(data).read_all())
        return begun

    def _read(self, table: pa.Table) -> None:
        from memory_builder.encoding.lanes.lane import Encoded

        for _, rows in groupby(table.to_pylist(), lambda row: row["batch"]):
            numbers: list[int] = []
            outcomes: Outcomes = []
            for row in rows:
                numbers.append(row["number"])
                if row["code"] is not None:
                    outcomes.append(Refused(row["code"], row["detail"]))
                    continue
                described = Described(row["content_sha256"], row["thumbnail"])
                outcomes.append(Encoded(described, np.frombuffer(row["embedding"], dtype=np.float16)))
            self.note(numbers, outcomes)


def _row(batch: int, number: int, outcome: "Encoded | Refused") -> dict[str, object]:
    if isinstance(outcome, Refused):
        return {"batch": batch, "number": number, "code": outcome.code, "detail": outcome.detail}
    kept = outcome.described
    return {
        "batch": batch,
        "number": number,
        "content_sha256": kept.content_sha256,
        "thumbnail": kept.thumbnail,
        "embedding": outcome.embedding.tobytes(),
    }
