"""Where `reco embed` writes: lines of JSON, or a numpy array with its items beside it. Both go on where they stopped.

numpy and the standard library. Each input is one item, in the order of the inputs.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_LINE_BEGINS = b'{"key": "'
_AS_JSON = (
    "backslashreplace"  # for what UTF-8 cannot say, as of a file's name that is no text: JSON has the same escape
)


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
        if _is_begun(path):
            if not resume:
                raise OutputError(f"{path} is there: --resume goes on with it; or name another file")
            end = 0
            for item, after in _whole_lines(path):
                self.done.append(item["key"])
                self.space = item.get("space", self.space)
                end = after
            os.truncate(path, end)
        self._file = path.open("a", encoding="utf-8", errors=_AS_JSON)

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
        if _is_begun(self._part) or _is_begun(self._items_path):
            if not resume:
                raise OutputError(f"{self._part} is there: --resume goes on with it; else delete it or name another")
            self._take_up()
        self._file = self._part.open("ab")
        self._items = self._items_path.open("a", encoding="utf-8", errors=_AS_JSON)

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
        self._file.flush()
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
        """Go on after the last item whose row is there: of long keys, items reach the disk before their rows."""
        held, end = self._part.stat().st_size if self._part.exists() else 0, 0
        for item, after in _whole_lines(self._items_path) if self._items_path.exists() else ():
            if "row" in item:
                if item["row"] != self._rows:
                    raise OutputError(f"{self._items_path} is no file of `reco embed`; name another")
                if held < 4 * (self._rows + 1) * item["embed_dim"]:
                    break
                self._rows, self._dim, self.space = self._rows + 1, item["embed_dim"], item["space"]
            self.done.append(item["key"])
            end = after
        if self._items_path.exists():
            os.truncate(self._items_path, end)
        if self._part.exists():
            os.truncate(self._part, 4 * self._rows * self._dim)

    def _item(self, item: dict[str, Any]) -> None:
        self._items.write(json.dumps(item, ensure_ascii=False) + "\n")


def _is_begun(path: Path) -> bool:
    """Whether anything is written there; a run that found no service has left an empty file."""
    return path.exists() and path.stat().st_size > 0


def _whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The items of a file, each with the byte it ends at; what follows the last is a line that a kill cut.

    Raises:
        OutputError: the file is none of ours.
    """
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") and line.startswith(_LINE_BEGINS[: len(line)]):
                return
            try:
                item = json.loads(line)
            except ValueError:
                item = None
            if not isinstance(item, dict) or not isinstance(item.get("key"), str) or not line.endswith(b"\n"):
                raise OutputError(f"{path} is no file of `reco embed`; name another")
            end += len(line)
            yield item, end
