"""What items take, lately, and what follows from it: how many are taken together, and who would wait too long.

No threads and no clock: the batcher holds its lock and measures. Seconds are those of the whole machine: a batch that
has half of its cores for two seconds takes one.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping

from memory import Modality
from service.pipeline.batch import LANES

_LATELY = 5  # batches; what an item takes is their median: one accident turns nobody away, and no luck lets too many in


class Pace:
    """Of both lanes."""

    def __init__(self, *, max_batch_size: int, max_batch_s: float = math.inf, max_wait_s: float = math.inf) -> None:
        """Know nothing yet.

        Args:
            max_batch_size: most items together.
            max_batch_s: how long a batch should take, about, by what earlier ones took; at least one item is taken.
            max_wait_s: who would wait longer, by what items took lately, is not admitted.
        """
        self._max_batch_size = max_batch_size
        self._max_batch_s, self._max_wait_s = max_batch_s, max_wait_s
        self._lately: dict[Modality, deque[float]] = {lane: deque(maxlen=_LATELY) for lane in LANES}
        self._item_s: dict[Modality, float] = {}  # what an item of each lane takes: the median of these
        self._first_item_s: dict[Modality, float] = {}  # what one took in a lane's first batch, which warms it up
        self._ceiling: dict[Modality, int] = dict.fromkeys(LANES, max_batch_size)  # lower after memory ran out

    def in_time(self, modality: Modality, admitted: Mapping[Modality, int], share: float = 1.0) -> bool:
        """Whether the newest of a lane's items, with those of the other, is answered in time (or in a share of it)."""
        own, other = (
            admitted[lane] * self._item_s.get(lane, 0.0) for lane in sorted(LANES, key=lambda lane: lane != modality)
        )
        return own + min(own, other) <= share * self._max_wait_s  # the lanes take turns

    def seconds(self, admitted: Mapping[Modality, int]) -> float:
        """What these items take; those of a lane of which nothing is known take none."""
        return sum(count * self._item_s.get(lane, 0.0) for lane, count in admitted.items())

    def most(self, modality: Modality, share: float, times: float = 1.0) -> int:
        """How many items may be taken together on a share of the machine, at least 1, in a batch's time or some of it.

        To the nearest: what an item took in a small batch, it does not take in a larger one. Where nothing is known an
        item may take whole seconds: then it is one.
        """
        item_s = self._item_s.get(modality, self._first_item_s.get(modality, math.inf))
        fitting = math.inf if math.isinf(self._max_batch_s) else times * self._max_batch_s * share / item_s
        return max(1, round(min(self._ceiling[modality], fitting)))

    def ceiling(self, modality: Modality) -> int:
        """The most items that memory has room for."""
        return self._ceiling[modality]

    def lower(self, modality: Modality, ceiling: int) -> None:
        """Memory ran out: take no more than `ceiling` for now."""
        self._ceiling[modality] = min(ceiling, self._ceiling[modality])  # another thread may have found less room

    def learn(self, modality: Modality, size: int, seconds: float, share: float) -> None:
        """Follow what an item takes, and try larger batches again, step by step, after memory ran out.

        A lane's first batch, which warms everything up, bounds the size of the second and nothing else: an estimate
        that is too high would turn clients away.

        Args:
            modality: the lane.
            size: items of a batch.
            seconds: that it took.
            share: of the machine, in (0, 1], that it had.
        """
        item_s = max(seconds * share / size, 1e-9)
        if modality in self._first_item_s:
            self._lately[modality].append(item_s)
            self._item_s[modality] = statistics.median_low(self._lately[modality])
        self._first_item_s.setdefault(modality, item_s)
        self._ceiling[modality] = min(self._max_batch_size, self._ceiling[modality] + 1)
