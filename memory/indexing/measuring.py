"""How many neighbours an index finds, against a scan of all rows, and how many lists that takes.

Queries are rows of the memory that the lists were not trained on; a query's own row counts neither as found nor as
missed. Everything here is the same on every run; what a clock says is in timing.py.

Shapes: Q queries, K = 10 neighbours, C candidates, N rows, D embedding dimension.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memory.format.manifest import SearchParameters
from memory.indexing.list_search import MEASURED_K, ListSearch
from memory.searching.ranking import NOWHERE, best_k, exact_similarities
from memory.searching.stored_rows import StoredRows

_SPARE: Final = 6  # beyond K in float32, so that the K best in float64 are among them
CANDIDATES: Final = (16, 32, 64, 128, 256, 512)  # numbers of rows to rank that are tried
_SCANNED_ROWS: Final = 4096  # at a time: 8 MiB of similarities to 512 queries
_NOBODY: Final = np.int64(-2)  # own row of a query that is none of this side


@dataclass(frozen=True)
class Setting:
    """One way to search, and the share of the 10 nearest it finds.

    Attributes:
        nprobe: lists looked at, at most if there is a margin.
        num_candidates: rows ranked by their exact similarity.
        before: recall by the codes alone.
        recall: recall after ranking.
        error: standard error of `recall`: other queries may find so much less.
        margin: as `SearchParameters.margin`.
        mean_lists: lists that a query looks at on average, if there is a margin.
    """

    nprobe: int
    num_candidates: int
    before: float
    recall: float
    error: float
    margin: float | None = None
    mean_lists: float | None = None

    @property
    def parameters(self) -> SearchParameters:
        """To search so."""
        return SearchParameters(self.nprobe, self.num_candidates, self.margin)

    @property
    def assured(self) -> float:
        """Recall with its error taken off: of many settings the cheapest that reaches a number is a lucky one."""
        return self.recall - self.error

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Asked:
    """Queries and what a scan answers them.

    Attributes:
        queries: (Q, D) float32, unit norm.
        own: (Q,) id of each query's own row; negative where it has none.
        least: (Q,) float32, similarity of the 10th neighbour: what is as near is found.
        count: neighbours there are to find: 10, fewer in a tiny memory.
    """

    queries: NDArray[np.float32]
    own: NDArray[np.int64]
    least: NDArray[np.float32]
    count: int


def ask(rows: StoredRows, queries: NDArray[np.float32], own: NDArray[np.int64] | None) -> Asked:
    """Answer queries by a scan of all rows.

    Args:
        rows: of all segments, N of them.
        queries: (Q, D) float32.
        own: (Q,) id of each query's own row, or None if the queries are of the other modality.
    """
    own = np.full(len(queries), _NOBODY) if own is None else own
    count = min(MEASURED_K, len(rows) - 1)
    keep = count + 1 + _SPARE
    ids = np.full((len(queries), 0), _NOBODY)
    similarities = np.full((len(queries), 0), NOWHERE)
    for base, block in rows.blocks(rows=_SCANNED_ROWS):
        columns, more = _nearer(queries @ block.T, similarities[:, keep - 1 : keep], keep)
        ids = np.concatenate((ids, columns + base), axis=1)
        ids, similarities = best_k(ids, np.concatenate((similarities, more), axis=1), keep)
    missing = similarities == NOWHERE  # a tiny memory has no more rows
    exact = exact_similarities(queries, np.where(missing, 0, ids), rows.take)
    exact[missing | (ids == own[:, None])] = NOWHERE
    return Asked(queries, own, best_k(ids, exact, count)[1][:, -1], count)


def measure(
    search: ListSearch,
    asked: Asked,
    nprobe: int,
    candidates: Sequence[int] = CANDIDATES,
    *,
    margin: float | None = None,
) -> list[Setting]:
    """Recall of one way to choose lists with some numbers of candidates, ascending, from one search with the most."""
    found = search.propose(asked.queries, candidates[-1] + 1, nprobe, margin)  # one more: the query's own row
    exact = search.similarities(asked.queries, found)
    exact[found == asked.own[:, None]] = NOWHERE
    near = exact >= asked.least[:, None]  # (Q, C)
    others = np.cumsum(found != asked.own[:, None], axis=1)  # how many candidates up to here are another row
    before, _ = _share(near & (others <= asked.count), asked)
    return [Setting(nprobe, count, before, *_share(near & (others <= count), asked), margin) for count in candidates]


def choose_setting(settings: Sequence[Setting], wanted: float, cost: "Cost") -> Setting:
    """The cheapest that is sure of the recall wanted; the best there is if none is."""
    enough = [setting for setting in settings if setting.assured >= wanted]
    if not enough:
        most = max(setting.assured for setting in settings)
        enough = [setting for setting in settings if setting.assured >= most]
    return min(enough, key=cost.of)


@dataclass(frozen=True)
class Cost:
    """Bytes a search reads: of codes in a row, of rows one by one.

    Attributes:
        list_bytes: codes of a list, on average.
        row_bytes: of an fp16 row.
    """

    list_bytes: float
    row_bytes: int

    def of(self, setting: Setting) -> float:
        # a row on its own costs about four times what its bytes cost in a row
        return setting.nprobe * self.list_bytes + 4 * setting.num_candidates * self.row_bytes


def _share(hits: NDArray[np.bool_], asked: Asked) -> tuple[float, float]:
    """The share found of what there is to find, on average over the queries, and the standard error of that."""
    # rows as near as the 10th may be more than ten
    shares = np.minimum(hits.sum(axis=1), asked.count) / max(1, asked.count)
    return round(float(shares.mean()), 4), round(float(shares.std() / math.sqrt(len(shares))), 4)


def _nearer(
    block: NDArray[np.float32], worst: NDArray[np.float32], keep: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of (Q, n) similarities those above the worst that is kept so far, (Q, 1), or the best if none is.

    Returns:
        Columns and similarities, (Q, C); similarity `NOWHERE` where a query has fewer.
    """
    if not worst.shape[1]:
        columns = np.argpartition(-block, min(keep, block.shape[1]) - 1, axis=1)[:, :keep]
        return columns, np.take_along_axis(block, columns, axis=1)
    queries, found = np.nonzero(block > worst)
    counts = np.bincount(queries, minlength=len(block))
    places = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = np.zeros((len(block), int(counts.max(initial=0))), dtype=np.int64)
    similarities = np.full(columns.shape, NOWHERE)
    columns[queries, places] = found
    similarities[queries, places] = block[queries, found]
    return columns, similarities
