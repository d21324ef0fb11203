"""Retrieval between images and texts: at which rank the first right answer stands.

A wrong answer that ties with the right one counts as standing before it, and so does one within 1e-6 of it, which is
float32 rounding: equal embeddings can earn nothing by their order.
Shapes: N images, M texts, Q queries, D embedding dim.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.refinement import SCORINGS, FloatArray, Scoring, Sides
from evaluation.ties import TIE
from memory import Modality

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalTask:
    """Images and texts that belong together, in one vector space.

    Attributes:
        images: (N, D) float32, unit norm.
        texts: (M, D) float32, unit norm.
        image_of_text: (M,) int64, the image that each text belongs to; several texts may share one, and an image
            without any is a distractor.
    """

    images: FloatArray
    texts: FloatArray
    image_of_text: NDArray[np.int64]

    @property
    def first_of_ties(self) -> bool:
        """A tie counts against the query: equal embeddings can earn nothing by their order."""
        return False

    def __post_init__(self) -> None:
        outside = self.image_of_text.max(initial=0) >= len(self.images) or self.image_of_text.min(initial=0) < 0
        if len(self.texts) != len(self.image_of_text) or outside:
            raise ValueError("a retrieval task needs one image a text, each the number of an image")

    def queries(self, modality: Modality) -> NDArray[np.int64]:
        """The queries of a direction that have a right answer: all texts, and the images that have a text."""
        return np.arange(len(self.texts)) if modality == "text" else np.unique(self.image_of_text)

    def relevant(self, modality: Modality, queries: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which answers are right for some queries: (Q, M) for images, (Q, N) for texts."""
        answers, wanted = self.image_of_text, queries
        if modality == "text":
            answers, wanted = np.arange(len(self.images)), self.image_of_text[queries]
        return np.equal.outer(wanted, answers)


def best_ranks(scores: FloatArray, relevant: NDArray[np.bool_], *, first_of_ties: bool = False) -> NDArray[np.int64]:
    """The rank (Q,), from 1, of the best right answer of each query.

    Args:
        scores: (Q, M), higher is better.
        relevant: (Q, M), at least one True a row.
        first_of_ties: whether of equal answers the first is given, as a classification gives it, or the right one last.
    """
    right = np.where(relevant, scores, -np.inf)
    best = right.max(axis=1, keepdims=True)
    ahead = scores >= best - TIE
    if first_of_ties:
        later = np.arange(scores.shape[1]) > right.argmax(axis=1)[:, None]
        ahead &= ~later | (scores > best + TIE)
    ranked: NDArray[np.int64] = 1 + (~relevant & ahead).sum(axis=1, dtype=np.int64)
    return ranked


class HasAnswers(Protocol):
    """A task whose queries of a modality have right answers; a classification is one, for images."""

    @property
    def first_of_ties(self) -> bool:
        """As in `best_ranks`."""

    def queries(self, modality: Modality) -> NDArray[np.int64]:
        """As in RetrievalTask."""

    def relevant(self, modality: Modality, queries: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As in RetrievalTask."""


def ranks(task: HasAnswers, sides: Sides, modality: Modality) -> dict[Scoring, NDArray[np.int64]]:
    """Best ranks (Q,) by scoring, of the queries `task.queries(modality)`."""
    wanted = np.zeros(len(sides.image if modality == "image" else sides.text), dtype=np.bool_)
    wanted[task.queries(modality)] = True
    found: dict[Scoring, list[NDArray[np.int64]]] = {scoring: [] for scoring in SCORINGS}
    for block in sides.blocks(modality):
        rows = np.flatnonzero(wanted[block]) + block.start
        relevant = task.relevant(modality, rows)
        for scoring in SCORINGS:
            scores = sides.scores(scoring, modality, rows)
            found[scoring].append(best_ranks(scores, relevant, first_of_ties=task.first_of_ties))
    return {scoring: np.concatenate(parts) for scoring, parts in found.items()}


def recall_by_chance(task: RetrievalTask, modality: Modality, at: int) -> float:
    """In percent: how often one of a query's right answers is among the first `at` of an order drawn at random."""
    among = len(task.images) if modality == "text" else len(task.texts)
    right = np.bincount(task.image_of_text, minlength=len(task.images))
    counts = np.ones(len(task.texts), dtype=np.int64) if modality == "text" else right[right > 0]
    missed = np.ones(len(counts))
    for drawn in range(min(at, among)):
        missed *= np.maximum(among - counts - drawn, 0) / (among - drawn)
    return float((1 - missed).mean() * 100)
