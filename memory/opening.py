"""Open a memory wherever it is kept: in a directory, in an object store, or in Milvus. Imports this room only."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.indexing.gpu.placing import Gpu
from memory.memory import Memory
from memory.searchable import SearchableMemory
from memory.stores import RemoteMemories, is_address

if TYPE_CHECKING:
    from memory.milvus import MilvusServer


def open_memory(
    where: str | Path,
    *,
    milvus: "MilvusServer | None" = None,
    encoder: Mapping[str, Any] | None = None,
    stamps: Path | None = None,
    remote: RemoteMemories | None = None,
    gpu: Gpu | None = None,
) -> SearchableMemory:
    """Open what `where` names.

    Args:
        where: a directory that `reco build` wrote; its address in an object store; with `milvus`, the name that
            `reco memory push` gave.
        milvus: the server to look the name up in.
        encoder: record of the encoder that will make the queries; refused if the memory was built with another.
        stamps: see `Memory.open`.
        remote: what may be fetched from object stores, and where it is copied to; None refuses addresses.
        gpu: see `Memory.open`; what Milvus keeps, it searches where it likes.

    Raises:
        MemoryStoreError: as `Memory.open`, `RemoteMemories.fetch` and `MilvusMemory.open` say.
    """
    if milvus is None:
        return Memory.open(local_copy(where, remote), encoder=encoder, stamps=stamps, gpu=gpu)
    from memory.milvus import MilvusMemory

    return MilvusMemory.open(str(where), milvus, encoder=encoder)


def local_copy(where: str | Path, remote: RemoteMemories | None = None) -> Path:
    """The directory of a memory: the one named, or the copy of what an address names, fetched if it is not here.

    Raises:
        MemoryStoreError: as `RemoteMemories.fetch`.
    """
    if not is_address(str(where)):
        return Path(where)
    return (remote or RemoteMemories((), Path())).fetch(str(where))
