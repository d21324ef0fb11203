"""Training: random rows over all segments, and the empty index that all shards of a generation share.

Shapes: N rows of all segments, D embedding dimension.
"""

import hashlib
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.format.families import Family
from memory.indexing.faiss_files import Trained, take_apart
from memory.indexing.gpu.owner import gpu_owner, num_gpus
from memory.indexing.kernels import faiss

ROWS_PER_LIST: Final = 40  # FAISS warns below 39; more gives no better lists
ITERATIONS: Final = 8
QUERIES: Final = 512  # held out of training, to measure by


class Split(NamedTuple):
    """Row numbers, ascending, drawn at random from all rows; the two share none.

    Attributes:
        training: rows to train on.
        held_out: rows to query with.
    """

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_rows(rows: int, lists: int, *, seed: str) -> Split:
    """Draw the rows to train on and those to measure by.

    Args:
        rows: N.
        lists: how many centroids the training rows are for.
        seed: equal seeds give equal rows.
    """
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    rng = np.random.default_rng(number)
    # A small memory keeps a tenth for measuring: what is left must still train the lists.
    # Where all of it must, what is measured by is trained on as well.
    held_out = min(QUERIES, max(1, rows // 10), rows - lists)
    if held_out < 1:
        every = np.arange(rows)
        return Split(every, np.sort(rng.choice(rows, size=min(QUERIES, rows), replace=False)))
    drawn = rng.choice(rows, size=min(rows, held_out + ROWS_PER_LIST * lists), replace=False, shuffle=True)
    return Split(np.sort(drawn[held_out:]), np.sort(drawn[:held_out]))


def train(family: Family, rows: NDArray[np.float32]) -> Trained:
    """Train the empty index of a family; equal rows give equal bytes on one machine (k-means is seeded).

    Where FAISS has a GPU, it finds the nearest centroids.

    Args:
        family: not the exact one, which needs no training.
        rows: (n, D), unit norm.
    """
    index = faiss.index_factory(family.embed_dim, family.factory, faiss.METRIC_INNER_PRODUCT)
    trained = take_apart(index)
    assert trained.lists is not None, "only lists are trained"
    trained.lists.cp.niter = ITERATIONS
    trained.lists.cp.min_points_per_centroid = 1  # a forced number of lists is the user's to choose
    trained.lists.cp.max_points_per_centroid = ROWS_PER_LIST
    if num_gpus():
        owner = gpu_owner(0)
        owner.flat(family.embed_dim).use(partial(_train_with, index, trained.lists, rows))
    else:
        index.train(rows)
    return trained


def _train_with(index: Any, lists: Any, rows: NDArray[np.float32], centroids: Any) -> None:
    """Train an index whose k-means compares by another, empty one."""
    lists.clustering_index = centroids
    try:
        index.train(rows)
    finally:
        lists.clustering_index = None


def mean_similarity(trained: Trained, rows: NDArray[np.float32]) -> float:
    """How near rows are to their centroids on average, 1 being on them: what falls when a memory drifts."""
    assert trained.lists is not None
    similarities, _ = trained.lists.quantizer.search(trained.rotate(rows), 1)
    return round(float(similarities.mean(dtype=np.float64)), 4)
