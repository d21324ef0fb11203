"""What goes through the batcher: lanes, batches, what a computed item says, and how it can fail. No threads here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from memory import Modality

AnswerT = TypeVar("AnswerT")
AnswerCo = TypeVar("AnswerCo", covariant=True)
QueryContra = TypeVar("QueryContra", contravariant=True)
LANES: tuple[Modality, ...] = ("image", "text")


class QueueFull(Exception):  # noqa: N818
    """As many items as allowed are accepted and not answered: the caller should come back later."""


class DeadlinePassed(Exception):  # noqa: N818
    """The item was still waiting when its time was up; nothing was computed for it."""


class BatcherStopped(Exception):  # noqa: N818
    """The compute thread has ended: nothing will be answered any more."""


class DeviceLost(Exception):  # noqa: N818
    """What computes cannot compute any more; only a new process can."""


@dataclass(frozen=True)
class Batch:
    """One computed batch: its size and the seconds of each stage. Shared by the items that were in it."""

    modality: Modality
    size: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Done(Generic[AnswerT]):
    """One item's answer, how long it waited, and the batch it was computed in."""

    answer: AnswerT
    queue_seconds: float
    batch: Batch


class Compute(Protocol[QueryContra, AnswerCo]):
    """The engine as the batcher sees it: a batch in, answers in its order and seconds by stage out."""

    def __call__(
        self, modality: Modality, queries: Sequence[QueryContra], /
    ) -> tuple[Sequence[AnswerCo], Mapping[str, float]]: ...
