"""Open a memory wherever it is kept: a directory of FAISS shards, or a name in Milvus. Imports this room only."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.memory import Memory
from memory.searchable import SearchableMemory

if TYPE_CHECKING:
    from memory.milvus import MilvusServer


def open_memory(
    where: str | Path,
    *,
    milvus: "MilvusServer | None" = None,
    encoder: Mapping[str, Any] | None = None,
    stamps: Path | None = None,
) -> SearchableMemory:
    """Open what `where` names.

    Args:
        where: a directory that `reco build` wrote; with `milvus`, the name that `reco memory push` gave.
        milvus: the server to look the name up in.
        encoder: record of the encoder that will make the queries; refused if the memory was built with another.
        stamps: see `Memory.open`.

    Raises:
        MemoryStoreError: as `Memory.open` and `MilvusMemory.open` say.
    """
    if milvus is None:
        return Memory.open(Path(where), encoder=encoder, stamps=stamps)
    from memory.milvus import MilvusMemory

    return MilvusMemory.open(str(where), milvus, encoder=encoder)
