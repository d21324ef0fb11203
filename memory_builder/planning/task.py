"""What a build is to do with its sources: encode a corpus, or take embeddings over. The runner does either alike."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from memory_builder.encoding.begun import BegunUnit
from memory_builder.encoding.mapper import Checkpoint, MappedUnit
from memory_builder.known_keys import KnownKeys
from memory_builder.readers import Reader


class UnitMapper(Protocol):
    """Makes rows of the memory from what the readers of its task give."""

    units_at_once: int
    """How many units may be mapped at the same time, each in a thread of its own."""

    def map_unit(
        self, rows: Iterable[Any], known: KnownKeys, checkpoint: Checkpoint, begun: BegunUnit | None = None
    ) -> MappedUnit:
        """As in Mapper and in embeddings.Importer: equal rows in, equal bytes out."""

    def seconds(self) -> Mapping[str, float]:
        """Where time went, as in lanes.Lanes; empty where nothing is encoded."""


@dataclass(frozen=True)
class Task:
    """Sources, and what makes rows of them.

    Attributes:
        stage: what mapping is called in the progress: encode or read.
        readers: the sources, in order.
        mapper: entered for as long as units are mapped.
        row_options: settings that change what is stored of a row.
        encoder: record of the encoder that makes or made the embeddings.
        encoded_with: device and dtype of that, and its name for people, for the manifest.
    """

    stage: str
    readers: Sequence[Reader[Any]]
    mapper: AbstractContextManager[UnitMapper]
    row_options: Mapping[str, Any]
    encoder: Mapping[str, Any]
    encoded_with: Mapping[str, Any]

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.encoder["embed_dim"])
