"""A source of cached embeddings: its shards as pieces, and a piece as blocks of rows. numpy and readers/.

D embedding dim.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory_builder.embeddings.block import Block
from memory_builder.errors import CorpusError
from memory_builder.readers.reader import Piece
from memory_builder.records import Rejected

BLOCK_ROWS = 1024  # read, checked and told to the progress bar at once
_SAMPLED_SHARDS = 8


class Shard(Protocol):
    """A part of a source that is read by ranges of rows."""

    name: str
    """For messages."""
    rows: int
    embed_dim: int
    has_captions: bool
    state: Sequence[Any]
    """What tells, as JSON, that its files are still those that were seen."""

    def read(self, start: int, stop: int) -> Block:
        """Rows `start` to `stop`.

        Raises:
            CorpusError: source_changed, or the files cannot be read.
        """


class _Range(NamedTuple):
    """A piece's place."""

    shard: Shard
    start: int
    stop: int


class EmbeddingsReader:
    """A folder or a file of cached embeddings, as readers.Reader has it; what it reads are blocks.

    Attributes:
        embed_dim: D.
        has_captions: False if the texts are known by their embeddings alone.
    """

    kind = "embeddings"

    def __init__(
        self, name: str, shards: Sequence[Shard], options: Mapping[str, str], ignored: Sequence[str] = ()
    ) -> None:
        """Take over checked shards, in the order in which their rows enter the memory.

        Raises:
            CorpusError: source_empty, or embeddings_mismatch if they differ in D.
        """
        if not sum(shard.rows for shard in shards):
            raise CorpusError("source_empty", f"The embeddings {name} hold no row.")
        for shard in shards:
            check_same_dim((shards[0].name, shards[0].embed_dim), (shard.name, shard.embed_dim))
        self.name = name
        self.embed_dim = shards[0].embed_dim
        self.has_captions = all(shard.has_captions for shard in shards)
        self.ignored = len(ignored)
        self.example_ignored = ignored[0] if ignored else ""
        self._shards = shards
        self._options = options

    def options(self) -> Mapping[str, str]:
        """The columns that were asked for."""
        return self._options

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: shard by shard. A row is known by its place and by the state of its shard's files."""
        for shard in self._shards:
            for start in range(0, shard.rows, unit_rows):
                place = _Range(shard, start, min(start + unit_rows, shard.rows))
                state = json.dumps([list(shard.state), place.start, place.stop])
                yield Piece(place.stop - start, hashlib.sha256(state.encode()).hexdigest(), place)

    def read(self, piece: Piece) -> Iterator[Block]:
        """The rows of a piece, in order, in blocks of at most `BLOCK_ROWS`.

        Raises:
            CorpusError: source_changed, or the files cannot be read.
        """
        place: _Range = piece.place
        for start in range(place.start, place.stop, BLOCK_ROWS):
            yield place.shard.read(start, min(start + BLOCK_ROWS, place.stop))

    def sample(self, count: int) -> list[tuple[str, NDArray[np.float32]]]:
        """Up to `count` different captions with their text embeddings, (D,) float32 of any length.

        From the beginnings of a few shards: to reach the middle of a Parquet file all before it must be read.
        """
        shards = [shard for shard in self._shards if shard.rows]
        chosen = sorted(set(np.linspace(0, len(shards) - 1, _SAMPLED_SHARDS, dtype=int).tolist()))
        each = -(-count // len(chosen))
        found: dict[str, NDArray[np.float32]] = {}
        for shard in (shards[position] for position in chosen):
            block = shard.read(0, min(shard.rows, BLOCK_ROWS))
            captions: dict[str, int] = {}
            for row, pair in enumerate(block.pairs):
                if not isinstance(pair, Rejected) and pair.caption is not None and pair.caption not in found:
                    captions.setdefault(pair.caption, row)
            spread = np.linspace(0, len(captions) - 1, min(each, len(captions)), dtype=int)
            for caption in (list(captions)[position] for position in spread):
                found[caption] = block.text[captions[caption]].astype(np.float32)
        return list(found.items())[:count]


def check_same_dim(first: tuple[str, int], other: tuple[str, int]) -> None:
    """Refuse two names whose embedding dims differ.

    Raises:
        CorpusError: embeddings_mismatch.
    """
    if first[1] != other[1]:
        raise CorpusError(
            "embeddings_mismatch",
            f"{first[0]} holds embeddings of D = {first[1]} and {other[0]} of D = {other[1]}: all must be of one "
            "encoder. Build a memory for each.",
        )
