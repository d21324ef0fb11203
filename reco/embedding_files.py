"""Where `reco embed` writes: lines of JSON, or a numpy array with its items beside it. Both go on where they stopped.

numpy and the standard library. Each input is one item, in the order of the inputs.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class OutputError(Exception):
    """The file cannot be written to, or holds something else; one sentence."""

    code = "output_refused"


class Output(Protocol):
    """One embedding after the other.

    Attributes:
        done: the keys of the items that an earlier run wrote, in order.
        space: their vector space; None before there is any.
    """

    done: list[str]
    space: str | None

    def write(self, key: str, embedding: FloatArray, space: str) -> None:
        """Add an embedding (D,)."""

    def write_error(self, key: str, code: str) -> None:
        """Add an item that has none."""

    def flush(self) -> None:
        """Hand on what was written."""

    def finish(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Let go of the files, finished or not."""


class JsonLines:
    """`{"key", "embedding", "space"}` or `{"key", "error"}` a line."""

    def __init__(self, path: Path | None, *, resume: bool = False) -> None:
        """Write to a file, or to standard output for None.

        Raises:
            OutputError: the file is there, and nobody said to go on with it; or it is another one's.
        """
        self.done: list[str] = []
        self.space: str | None = None
        if path is None:
            self._file: IO[str] = sys.stdout
            return
        if path.exists():
            if not resume:
                raise OutputError(f"{path} is there: --resume goes on with it; or name another file")
            for item in _whole_lines(path):
                self.done.append(item["key"])
                self.space = item.get("space", self.space)
        self._file = path.open("a", encoding="utf-8")

    def write(self, key: str, embedding: FloatArray, space: str) -> None:
        """See `Output`."""
        numbers = [float(f"{value:.7g}") for value in embedding]  # seven digits are all that float32 has
        self._line({"key": key, "embedding": numbers, "space": space})

    def write_error(self, key: str, code: str) -> None:
        """See `Output`."""
        self._line({"key": key, "error": code})

    def flush(self) -> None:
        """See `Output`."""
        self._file.flush()

    def finish(self) -> None:
        """See `Output`."""
        self._file.flush()

    def close(self) -> None:
        """See `Output`."""
        if self._file is not sys.stdout:
            self._file.close()

    def _line(self, item: dict[str, Any]) -> None:
        self._file.write(json.dumps(item, ensure_ascii=False) + "\n")


class ArrayFile:
    """`NAME.npy`: (N, D) float32; `NAME.items.jsonl`: `{"key", "row", "space"}` or `{"key", "error"}` a line.

    Until it is finished, the rows lie in `NAME.npy.part` as they are.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Begin, or go on.

        Raises:
            OutputError: as `JsonLines`.
        """
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._items_path = path.with_suffix(".items.jsonl")
        self.done: list[str] = []
        self.space: str | None = None
        self._rows, self._dim = 0, 0
        if path.exists():
            raise OutputError(f"{path} is there, and whole; name another file, or delete it")
        if self._part.exists() or self._items_path.exists():
            if not resume:
                raise OutputError(f"{self._part} is there: --resume goes on with it; else delete it or name another")
            self._take_up()
        self._file, self._items = self._part.open("ab"), self._items_path.open("a", encoding="utf-8")

    def write(self, key: str, embedding: FloatArray, space: str) -> None:
        """See `Output`."""
        self._dim = len(embedding)
        self._file.write(np.ascontiguousarray(embedding, dtype="<f4").tobytes())
        self._item({"key": key, "row": self._rows, "space": space, "embed_dim": self._dim})
        self._rows += 1

    def write_error(self, key: str, code: str) -> None:
        """See `Output`."""
        self._item({"key": key, "error": code})

    def flush(self) -> None:
        """See `Output`."""
        self._file.flush()  # the rows first: an item never names a row that is not there
        self._items.flush()

    def finish(self) -> None:
        """See `Output`."""
        self.close()
        whole = self._path.with_name(self._path.name + ".whole")
        head = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._dim)}
        with whole.open("wb") as file, self._part.open("rb") as rows:
            np.lib.format.write_array_header_1_0(file, head)
            shutil.copyfileobj(rows, file)
        whole.replace(self._path)
        self._part.unlink()

    def close(self) -> None:
        """See `Output`."""
        self._file.close()
        self._items.close()

    def _take_up(self) -> None:
        for item in _whole_lines(self._items_path) if self._items_path.exists() else ():
            self.done.append(item["key"])
            if "row" in item:
                self._rows, self._dim, self.space = item["row"] + 1, item["embed_dim"], item["space"]
        needed = 4 * self._rows * self._dim
        if self._rows and (not self._part.exists() or self._part.stat().st_size < needed):
            raise OutputError(f"{self._part} is shorter than {self._items_path} says: delete both and begin anew")
        if self._part.exists():
            os.truncate(self._part, needed)

    def _item(self, item: dict[str, Any]) -> None:
        self._items.write(json.dumps(item, ensure_ascii=False) + "\n")


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The items of a file; a last line that was cut by a kill is taken off the file.

    Raises:
        OutputError: the file is none of ours.
    """
    items, length = [], 0
    with path.open("rb") as file:
        for line in file:
            try:
                item = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                raise OutputError(f"{path} is no file of `reco embed`; name another") from None
            if item is None:
                break
            if not isinstance(item, dict) or not isinstance(item.get("key"), str):
                raise OutputError(f"{path} is no file of `reco embed`; name another")
            items.append(item)
            length += len(line)
    os.truncate(path, length)
    return items
