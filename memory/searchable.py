"""What a memory is to those who search it, wherever it is kept, and the checks all kinds share. numpy only.

`Memory` (FAISS shards in a directory) and `memory.milvus.MilvusMemory` (a Milvus server) are two of a kind: the
composed encoder, training, evaluation and the service take either.
Shapes: B queries, K neighbours, D embedding dimension, N rows of the memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.errors import ItemNotFound, QueryShapeError, QueryValueError
from memory.neighbours import MODALITIES, Modality, Neighbours

# Queries are normalised in float32; what is further off was never normalised.
QUERY_NORM_TOLERANCE: Final = 1e-2


@dataclass(frozen=True)
class Item:
    """One image-text pair of the memory, as stored beside its embeddings."""

    id: int
    key: str
    caption: str
    source: str
    content_sha256: str
    thumbnail: bytes | None


class SearchableMemory(Protocol):
    """One version of a memory, immutable, searched from any number of threads; `Memory` documents each member.

    What is kept elsewhere may be away: then every method that needs it raises `MemoryUnavailable`, within its deadline.
    """

    @property
    def encoder(self) -> Mapping[str, Any]:
        """Record of the encoder that made the embeddings."""

    @property
    def version(self) -> int:
        """Number of this version."""

    @property
    def digest(self) -> str:
        """Equal contents have an equal digest, wherever they are kept."""

    @property
    def embed_dim(self) -> int:
        """D."""

    @property
    def num_rows(self) -> int:
        """Ids run from 0 to this number, deleted ones included."""

    @property
    def num_items(self) -> int:
        """Items a search can return."""

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """The k nearest items of each query (B, D) of unit norm, within one modality."""

    def items(self, ids: Sequence[int] | NDArray[np.int64]) -> list[Item]:
        """Items by id, in the order given."""

    def rows(self, modality: Modality, ids: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Embeddings (N, D) float32, unit norm, of some ids or of all rows."""

    def keys(self) -> list[str]:
        """Keys of all rows, in id order."""

    def captions(self, ids: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """Captions of some ids, in the order given, or of all rows in id order."""

    def blocks(self, column: str) -> Iterator[list[str]]:
        """A column of text of all rows, in id order, a block at a time."""

    def deleted_ids(self) -> NDArray[np.int64]:
        """Ids no search returns, ascending."""

    def indices(self) -> list[dict[str, Any]]:
        """For each modality: `modality`, `id`, `kind` and `num_shards` of what is searched, as plain JSON."""

    def segments(self) -> list[dict[str, Any]]:
        """`id` and `rows` of each segment; none where that is another's business."""

    def close(self) -> None:
        """Let go of files or connections."""


def check_queries(queries: NDArray[np.float32], k: int, modality: Modality, *, embed_dim: int) -> NDArray[np.float32]:
    """The queries (B, D) float32, C-contiguous, if a memory of that dimension can answer them.

    Raises:
        QueryShapeError: D differs, k is negative or no integer, or the modality is unknown.
        QueryValueError: a query is not finite or not unit norm.
    """
    if modality not in MODALITIES:
        raise QueryShapeError(f"modality {modality!r} is neither 'image' nor 'text'")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise QueryShapeError(f"k must be an integer of at least 0, not {k!r}")
    array = np.asarray(queries)
    if array.ndim != 2 or array.shape[1] != embed_dim or array.dtype != np.float32:
        raise QueryShapeError(f"queries are {array.dtype}{list(array.shape)}, expected float32[B, {embed_dim}]")
    norms = np.linalg.norm(array, axis=1)
    # written so that NaN fails it
    if not (np.abs(norms - 1.0) <= QUERY_NORM_TOLERANCE).all():
        raise QueryValueError("queries must be finite and of unit norm; normalise embeddings first")
    return np.ascontiguousarray(array)


def check_ids(ids: Sequence[int] | NDArray[np.int64], *, num_rows: int) -> NDArray[np.int64]:
    """The ids (n,) int64, if all lie within a memory of that many rows.

    Raises:
        ItemNotFound: an id outside the memory, -1 included.
    """
    wanted = np.asarray(ids)
    if wanted.size == 0:
        return np.empty(0, dtype=np.int64)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise ItemNotFound("ids must be a flat sequence of integers")
    if wanted.min() < 0 or wanted.max() >= num_rows:
        raise ItemNotFound(f"an id lies outside this memory of {num_rows} rows (-1 means missing)")
    return wanted.astype(np.int64, copy=False)
