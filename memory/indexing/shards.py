"""The shard of one segment: made from its rows, or taken over from the generation before.

Shapes: N rows of a segment, D embedding dimension.
"""

import os
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.errors import WriteFailed
from memory.format.durable import Written, fsync_directory
from memory.format.manifest import FileRecord
from memory.format.rows import BLOCK_ROWS
from memory.indexing.faiss_files import Trained, lend_quantiser, write_faiss, write_lists
from memory.indexing.gpu.owner import GpuIndex, gpu_owner, num_gpus
from memory.indexing.kernels import faiss


class ShardWriter:
    """Writes shards of one generation: its trained lists, and their centroids on a GPU, are the same for all."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def write(self, path: Path, embeddings: NDArray[np.float16]) -> Written:
        """Add the rows of a segment to an empty copy of what was trained, and write it.

        FAISS holds the shard in memory meanwhile: what the family costs a row, times N.
        """
        trained = self._trained
        shard = _empty_copy(trained)
        # The SIMD layout takes no lists that others found (1.15.1).
        by_gpu = num_gpus() > 0 and type(shard) in (faiss.IndexIVFScalarQuantizer, faiss.IndexIVFRaBitQ)
        add = partial(self._add_by_gpu, shard) if by_gpu else shard.add
        for start in range(0, len(embeddings), BLOCK_ROWS):
            add(trained.rotate(embeddings[start : start + BLOCK_ROWS].astype(np.float32)))
        return write_faiss(path, shard) if trained.lists is None else write_lists(path, shard, trained)

    def _add_by_gpu(self, shard: Any, rows: NDArray[np.float32]) -> None:
        """Add rows (n, D), C-contiguous, as the lists know them; to find their lists is most of what adding costs."""
        _, nearest = self._centroids.search(rows, 1)
        shard.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(nearest))

    @cached_property
    def _centroids(self) -> GpuIndex:
        assert self._trained.lists is not None, "only lists have centroids"
        return gpu_owner(0).copy(self._trained.lists.quantizer)


def link_shard(root: Path, before: FileRecord, path: Path) -> Written:
    """Take over the file of a segment that was indexed before: another name for the same immutable bytes.

    Raises:
        WriteFailed: the file system cannot link it.
    """
    try:
        os.link(root / before.path, path)
    except OSError as error:
        raise WriteFailed(f"{before.path} cannot be linked into the new index: {error.strerror or error}") from error
    fsync_directory(path.parent)
    return Written(before.bytes, before.sha256)


def _empty_copy(trained: Trained) -> Any:
    if trained.lists is None:
        return faiss.clone_index(trained.whole)
    shard = faiss.clone_index(trained.lists)
    lend_quantiser(shard, trained)
    return shard
