"""A margin in the place of one number of lists for all queries: most need few lists, a tenth of them very many.

Of 250 queries of a million captions half had their ten neighbours in 4 of 2,048 lists, one in ten in more than 86. What
tells them apart before anything is read is how the similarities to the centroids fall (`ListSearch.nearest_lists`).

Shapes: Q queries, P lists.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory.format.manifest import SearchParameters
from memory.indexing.coarse import NO_LIST
from memory.indexing.list_search import ListSearch
from memory.indexing.measuring import Asked, Setting, measure

WIDER: Final = 2  # the query that needs most lists may have so many times the number that fits all
STEPS: Final = 64
STEP: Final = 1 / 128  # exact in binary, so that reports are equal
_LIST_STARTS: Final = 150  # a list costs as much as so many codes before its first one (3 µs and 20 ns)


def narrow(search: ListSearch, asked: Asked, chosen: Setting, wanted: float) -> Setting | None:
    """The setting chosen, but with the least margin that finds enough.

    Args:
        search: the index.
        asked: what to measure by.
        chosen: the best with one number of lists for all.
        wanted: the recall to reach.

    Returns:
        None if no margin reaches it, or if it would read more codes than one number for all.
    """
    nprobe = min(WIDER * chosen.nprobe, search.num_lists)
    best: Setting | None = None
    low, high = 0, STEPS  # steps that find too little, and enough
    while high - low > 1:
        step = min(max(1, 2 * low), (low + high) // 2)  # a wide margin costs as much as many narrow ones
        [tried] = measure(search, asked, nprobe, [chosen.num_candidates], margin=step * STEP)
        if tried.assured >= wanted:
            best, high = tried, step
        else:
            low = step
    if best is None:
        return None
    codes = np.append(search.list_rows() + _LIST_STARTS, 0)  # of each list; the last is read at NO_LIST
    narrow_lists, same_lists = (_lists(search, asked, setting.parameters) for setting in (best, chosen))
    if codes[narrow_lists].sum() >= codes[same_lists].sum():
        return None
    return replace(best, mean_lists=round(float((narrow_lists != NO_LIST).sum(axis=1).mean()), 1))


def _lists(search: ListSearch, asked: Asked, parameters: SearchParameters) -> NDArray[np.int64]:
    rotated = search.rotate(asked.queries)
    return search.nearest_lists(rotated, parameters.nprobe, parameters.margin).lists
