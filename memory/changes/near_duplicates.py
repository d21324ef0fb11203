"""Near-duplicates of an evaluation set: items whose image is nearly one of those to be measured on. numpy.

Shapes: B embeddings of the evaluation set, D embedding dimension, N rows of the memory.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory.errors import QueryShapeError, QueryValueError, SelectionInvalid
from memory.format.rows import BLOCK_ROWS
from memory.memory import Memory

DUPLICATE_COSINE: Final = 0.985  # of a picture and a copy of it, encoded again, resized or cropped by a little
_BATCH: Final = 1024
_UNREADABLE: Final = (  # a RuntimeError: encrypted, or compressed in a way that zipfile does not know
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError),
    *(RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error),
)
COSINE_ROUNDING: Final = 1e-5  # fp16 rows and a float32 product: a copy comes out just below 1


@dataclass(frozen=True)
class NearDuplicates:
    """What counts as nearly the same image.

    Attributes:
        images: (B, D) float32, unit norm: the evaluation set.
        cosine: from which on an item is a near-duplicate.

    Raises:
        SelectionInvalid: the cosine is not from above 0 to 1.
    """

    images: NDArray[np.float32]
    cosine: float = DUPLICATE_COSINE

    def __post_init__(self) -> None:
        if not 0 < self.cosine <= 1:
            raise SelectionInvalid(f"the cosine is {self.cosine}: give a number above 0, at most 1")

    def find(self, memory: Memory) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find them by a full scan: no index, so nothing is missed.

        Returns:
            Ids (n,), ascending, deleted ones not among them; and the cosine of each to its nearest, (n,).

        Raises:
            QueryShapeError: the embeddings are of another D than the memory's.
        """
        if self.images.shape[1] != memory.embed_dim:
            raise QueryShapeError(
                f"the evaluation set has D = {self.images.shape[1]}, the memory {memory.embed_dim}: both must be of "
                "the same encoder"
            )
        nearest = np.full(memory.num_rows, -1.0, dtype=np.float32)
        for start in range(0, memory.num_rows, BLOCK_ROWS):
            ids = np.arange(start, min(start + BLOCK_ROWS, memory.num_rows))
            rows = memory.rows("image", ids)  # (b, D)
            for first in range(0, len(self.images), _BATCH):
                cosines = rows @ self.images[first : first + _BATCH].T
                np.maximum(nearest[ids], cosines.max(axis=1), out=nearest[start : start + len(ids)])
        nearest[memory.deleted_ids()] = -1.0
        found = np.flatnonzero(nearest >= self.cosine - COSINE_ROUNDING)
        return found.astype(np.int64), nearest[found]


def read_evaluation_images(path: Path) -> NDArray[np.float32]:
    """The array `image` of an .npz, as `reco build --embeddings` reads it, at unit length.

    Returns:
        (B, D) float32, unit norm.

    Raises:
        SelectionInvalid: no such file, no .npz, no `image`, or rows that are no embeddings.
        QueryValueError: a row is zero or not finite.
    """
    try:
        # Opened here: numpy leaves a file that is no zip open. An .npy, or a pickle, is no context manager.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            array = np.asarray(archive["image"])
    except _UNREADABLE as error:
        raise SelectionInvalid(f"{path} is no .npz that holds 'image', (B, D) embeddings: {error}") from error
    if array.ndim != 2 or not array.size or array.dtype.kind != "f":
        raise SelectionInvalid(f"'image' in {path} is {array.dtype}{list(array.shape)}, expected float[B, D]")
    exact = array.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise QueryValueError(f"'image' in {path} holds rows that are zero or not finite; leave them out")
    return np.ascontiguousarray(exact / norms, dtype=np.float32)
