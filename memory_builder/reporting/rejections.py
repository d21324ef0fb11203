"""work/rejected.jsonl: the rows of all corpora of a memory that are not stored, and of which piece.

A corpus is known by its name, the first part of its keys. Built again, it takes its own lines out, but those of pieces
that are not looked at again, and leaves the lines of others. A build that is refused adds its own to what the memory
stands on, until the next build.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from memory.format.durable import write_file
from memory_builder.records import Rejected

Reason = tuple[str, str]
"""Code and detail."""


class RejectedPiece(NamedTuple):
    """What of a unit was rejected; `corpus` is its reader's name, `id` its `piece_id`."""

    corpus: str
    id: str
    rows: Iterable[Rejected]


class Rejections:
    """The file as it was when the build began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reasons: dict[str, Counter[Reason]] = {}
        for row, _ in self._lines():
            if (piece := row.get("piece")) and not row.get("refused"):
                self._reasons.setdefault(piece, Counter())[row["code"], row["detail"]] += 1

    def of_piece(self, piece_id: str) -> Mapping[Reason, int]:
        """Why rows of a piece were rejected when it was looked at last, by a build that was not refused."""
        return self._reasons.get(piece_id, {})

    def write(
        self, pieces: Iterable[RejectedPiece], corpora: Collection[str], kept: Collection[str], *, refused: bool
    ) -> None:
        """Write the rows of pieces in place of what the file had of their corpora.

        Args:
            pieces: in the plan's order.
            corpora: names of the corpora that are built.
            kept: ids of their pieces whose lines stay as they are.
            refused: nothing of this build will be stored, so what the memory holds is still what it was.

        Raises:
            memory.WriteFailed: disk full or I/O error; the file stays as it was.
        """

        def lines() -> Iterator[bytes]:
            for row, line in self._lines():
                stands = (refused or row.get("piece") in kept) and not row.get("refused")
                if _corpus(row) not in corpora or stands:
                    yield line
            for piece in pieces:
                for one in piece.rows:
                    told: dict[str, object] = {
                        **asdict(one),
                        "corpus": piece.corpus,
                        "piece": piece.id,
                        "refused": refused,
                    }
                    yield json.dumps(told, sort_keys=True).encode() + b"\n"

        write_file(self.path, lambda stream: [stream.write(line) for line in lines()], replace=True)

    def _lines(self) -> Iterator[tuple[Mapping[str, str], bytes]]:
        """Rows with their bytes; a line that is none of ours is left out, for the file is no part of a version."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            for line in file:
                with suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    if all(isinstance(row[name], str) for name in ("key", "code", "detail")):
                        yield row, line


def _corpus(row: Mapping[str, str]) -> str:
    """The corpus of a row; those of earlier releases have it in their key only."""
    return row.get("corpus") or row["key"].partition("/")[0]
