"""What a call gives back. Shapes: N inputs of the call, D embedding dim, K neighbours, C labels.

Depends on numpy only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemError:
    """One input that could not be used: its place in the call, a stable code, one sentence."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True)
class Neighbour:
    """One item of the memory that was found for an input."""

    id: int
    key: str
    caption: str
    similarity: float


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a call, in the order of its inputs. `numpy.asarray` gives the vectors.

    Attributes:
        vectors: (N, D) float32, unit norm; NaN in the rows of `errors`.
        space: name of the vector space: only embeddings of equal `space` are comparable.
        memory_version, model, fusion: what answered, `fusion` None for the frozen encoder alone.
        original: (N, D), the frozen encoder's own, if asked for.
        neighbours: of each input, best first, if asked for.
        truncated: the places of texts that were cut to the encoder's context.
        errors: with on_error="partial": by place, what could not be embedded.
        degraded: the service's memory was away, and these are the frozen encoder's embeddings, as `space` says.
    """

    vectors: NDArray[np.float32]
    space: str
    memory_version: int
    model: str
    fusion: str | None = None
    original: NDArray[np.float32] | None = None
    neighbours: Sequence[Sequence[Neighbour]] | None = None
    truncated: Sequence[int] = ()
    errors: Mapping[int, ItemError] = field(default_factory=dict)
    degraded: bool = False

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        """What it is, on one line: its numbers would hide that."""
        rows, width = self.vectors.shape
        told = {
            f"model={self.model!r}": True,
            f"space={self.space!r}": True,
            f"memory_version={self.memory_version}": True,
            "original": self.original is not None,
            "neighbours": self.neighbours is not None,
            f"truncated={len(self.truncated)}": self.truncated,
            f"errors={len(self.errors)}": self.errors,
            "degraded": self.degraded,
        }
        return f"<Embeddings {rows} x {width}, {', '.join(part for part, is_told in told.items() if is_told)}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        wanted = self.vectors if dtype is None else self.vectors.astype(dtype, copy=False)
        return wanted.copy() if copy else wanted


@dataclass(frozen=True)
class LabelScore:
    """How well one label fits."""

    label: str
    label_index: int
    probability: float
    similarity: float


@dataclass(frozen=True)
class Scores:
    """One image against all labels: (C,) arrays in their order, or with `top_k` the best of them."""

    label: str
    label_index: int
    probabilities: NDArray[np.float32] | None = None
    similarities: NDArray[np.float32] | None = None
    top: Sequence[LabelScore] | None = None

    @property
    def probability(self) -> float:
        """Of the best label."""
        if self.top is not None:
            return self.top[0].probability
        assert self.probabilities is not None, "an answer has the one or the other"
        return float(self.probabilities[self.label_index])


@dataclass(frozen=True)
class Classification:
    """One image: its scores, the frozen encoder's with `compare`, or what was wrong with it."""

    index: int
    scores: Scores | None = None
    original: Scores | None = None
    error: ItemError | None = None

    @property
    def label(self) -> str | None:
        """The best label; None for an image with an error."""
        return None if self.scores is None else self.scores.label

    @property
    def probability(self) -> float | None:
        """Of the best label; None for an image with an error."""
        return None if self.scores is None else self.scores.probability


@dataclass(frozen=True)
class Classifications(Sequence[Classification]):
    """The images of a call, in order.

    Attributes:
        enhance: which side was refined: both, image, text or none.
        trust: how far the memory was trusted for the labels, where the fusion measures that.
        degraded: the service's memory was away, and the answer is the frozen encoder's.
    """

    items: Sequence[Classification]
    space: str
    memory_version: int
    model: str
    enhance: str
    trust: Mapping[str, float] | None = None
    degraded: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Classification]:
        return iter(self.items)

    @overload
    def __getitem__(self, place: int) -> Classification: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Classification]: ...
    def __getitem__(self, place: int | slice) -> Classification | Sequence[Classification]:
        return self.items[place]
