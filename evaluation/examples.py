"""Queries to look at: where the memory helped or harmed, and some drawn at random, with the neighbours that did it.

Shapes: Q queries, K neighbours, A answers to choose from.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.label_sets import label_neighbours, label_set_weights
from evaluation.refinement import FloatArray, Mode
from evaluation.retrieval import HasAnswers, RetrievalTask, best_ranks, ranks
from evaluation.run import TaskResult
from evaluation.zero_shot import ZeroShotTask
from memory import Modality, Neighbours, SearchableMemory
from models.fusion import Fusion
from models.label_captions import LabelNeighbours

Group = Literal["helped", "harmed", "random"]
GROUPS: dict[Group, int] = {"helped": 12, "harmed": 12, "random": 6}  # how many of each are shown
TOP = 5


@dataclass(frozen=True)
class Shown:
    """An image or a text as a person sees it."""

    text: str
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Answer:
    """One of the best answers to a query: what it is, its score, and whether it is right."""

    shown: Shown
    score: float
    right: bool


@dataclass(frozen=True)
class UsedNeighbour:
    """A neighbour of the query.

    Attributes:
        shown: its caption, and its thumbnail if the memory has one.
        similarity: to the query.
        influence: by how much the right answer's lead shrinks when this neighbour alone is left out.
    """

    shown: Shown
    similarity: float
    influence: float


@dataclass(frozen=True)
class Example:
    """One query before and after.

    Attributes:
        group: why it is shown.
        query: what was asked.
        right: the right answers, at most three.
        before, after: rank of the best right answer.
        plain, refined: the best answers of `none` and of the mode shown.
        neighbours: what the refined query was made from; empty if the mode does not refine it.
        answer_neighbours: what the refined right answer was made from, likewise.
    """

    group: Group
    query: Shown
    right: tuple[Shown, ...]
    before: int
    after: int
    plain: tuple[Answer, ...]
    refined: tuple[Answer, ...]
    neighbours: tuple[UsedNeighbour, ...]
    answer_neighbours: tuple[UsedNeighbour, ...]


@dataclass(frozen=True)
class Examples:
    """The examples of one direction; `counts` says how many queries were helped and harmed in all."""

    title: str
    queries: Modality
    counts: dict[Group, int]
    shown: list[Example]


def examples(result: TaskResult, memory: SearchableMemory, fusion: Fusion, mode: Mode) -> list[Examples]:
    """Examples of each direction of a task, by its first fusion, chosen by one fixed seed and not by hand.

    Args:
        result: of the task; its first sides are those of `fusion`.
        memory: for captions and thumbnails of the neighbours.
        fusion: the first seed.
        mode: what stands beside the un-refined answers.
    """
    directions: list[tuple[str, Modality]] = [("images to classes", "image")]
    if isinstance(result.task.task, RetrievalTask):
        directions = [("text to image", "text"), ("image to text", "image")]
    return [_Direction(result, memory, fusion, mode, modality).examples(title) for title, modality in directions]


class _Direction:
    """One direction of a task: queries of one modality, answers of the other."""

    def __init__(
        self, result: TaskResult, memory: SearchableMemory, fusion: Fusion, mode: Mode, queries: Modality
    ) -> None:
        self._task, self._sides, self._k = result.task, result.sides[0], result.k
        self._memory, self._fusion, self._mode, self._queries = memory, fusion, mode, queries
        self._answers: Modality = "text" if queries == "image" else "image"
        self._of_labels: LabelNeighbours | None = None  # of a label set that is weighed, once it is asked for
        self._weights: dict[Modality, float] = {}  # of a label set; without, each query has a weight of its own
        if isinstance(self._task.task, ZeroShotTask):
            weights = label_set_weights(self._task.texts, memory, fusion, result.k, self._task.text_names)
            if weights is not None:
                self._weights = {"image": weights.image, "text": weights.text}

    def examples(self, title: str) -> Examples:
        task = self._task.task
        rows = task.queries(self._queries)
        by_scoring = ranks(task, self._sides, self._queries)
        before, after = by_scoring["none"], by_scoring[self._mode]
        members: dict[Group, NDArray[np.int64]] = {
            "helped": np.flatnonzero((before > 1) & (after == 1)),
            "harmed": np.flatnonzero((before == 1) & (after > 1)),
            "random": np.arange(len(rows)),
        }
        dice = np.random.default_rng(0)
        shown = list[Example]()
        for group, positions in members.items():
            drawn = np.sort(dice.permutation(positions)[: GROUPS[group]])
            shown += [self._example(task, group, int(row)) for row in rows[drawn]]
        return Examples(title, self._queries, {group: len(found) for group, found in members.items()}, shown)

    def _example(self, task: HasAnswers, group: Group, row: int) -> Example:
        relevant = task.relevant(self._queries, np.array([row]))
        rank = partial(best_ranks, relevant=relevant, first_of_ties=task.first_of_ties)
        plain, refined = (self._sides.scores(mode, self._queries, np.array([row])) for mode in ("none", self._mode))
        right = np.flatnonzero(relevant[0])
        best_right = int(right[refined[0, right].argmax()])
        return Example(
            group=group,
            query=self._shown(self._queries, row),
            right=tuple(self._shown(self._answers, int(one)) for one in right[:3]),
            before=int(rank(plain)[0]),
            after=int(rank(refined)[0]),
            plain=self._top(plain[0], relevant[0]),
            refined=self._top(refined[0], relevant[0]),
            neighbours=self._query_neighbours(row, relevant[0]),
            answer_neighbours=self._answer_neighbours(row, best_right),
        )

    def _shown(self, modality: Modality, row: int) -> Shown:
        if modality == "text":
            return Shown(self._task.shown_name(row))
        return Shown(self._task.image_names[row], self._task.thumbnails[row] if self._task.thumbnails else b"")

    def _top(self, scores: FloatArray, relevant: NDArray[np.bool_]) -> tuple[Answer, ...]:
        best = np.argsort(-scores, kind="stable")[:TOP]
        return tuple(
            Answer(self._shown(self._answers, int(row)), float(scores[row]), bool(relevant[row])) for row in best
        )

    def _refines(self, modality: Modality) -> bool:
        return self._mode in (modality, "both")

    def _met(self) -> tuple[FloatArray, FloatArray]:
        """Queries and answers as they meet in the mode."""
        image, text = self._sides.of(self._mode)
        return (image, text) if self._queries == "image" else (text, image)

    def _query_neighbours(self, row: int, relevant: NDArray[np.bool_]) -> tuple[UsedNeighbour, ...]:
        """The query's neighbours, each with what it is worth: the answers stay as they are, one is hidden."""
        if not self._refines(self._queries):
            return ()
        found, refined = self._without_each(self._queries, row)
        scores = refined @ self._met()[1].T  # (K + 1, A)
        wrong = scores[:, ~relevant].max(axis=1, initial=-1.0)  # a cosine's least, where every answer is right
        leads = scores[:, relevant].max(axis=1) - wrong
        return self._used(found, leads[0] - leads[1:])

    def _answer_neighbours(self, row: int, right: int) -> tuple[UsedNeighbour, ...]:
        """The right answer's neighbours: the query and the other answers stay as they are, one is hidden."""
        if not self._refines(self._answers):
            return ()
        found, refined = self._without_each(self._answers, right)
        query = self._met()[0][row]
        leads = refined @ query  # the best wrong answer is the same for all
        return self._used(found, leads[0] - leads[1:])

    def _without_each(self, modality: Modality, row: int) -> tuple[Neighbours, FloatArray]:
        """The neighbours of a row, and it refined with all of them, then with each hidden in turn: (K + 1, D)."""
        query = (self._sides.image if modality == "image" else self._sides.text)[row][None]
        found, weighed = self._found(modality, query, row)
        k = found.mask.shape[1]
        masks = found.mask & ~np.eye(k + 1, k, -1, dtype=np.bool_)  # (K + 1, K); the first row hides none
        repeated = [np.repeat(part, k + 1, axis=0) for part in (query, found.values, weighed.similarities)]
        queries, values, similarities, mask = (torch.from_numpy(part) for part in (*repeated, masks))
        with torch.inference_mode():
            if self._weights:  # a label set keeps its weight: it was measured on the neighbours of all labels
                evidence = self._fusion.evidence(modality)
                assert evidence is not None, "whoever has weights has it"
                refined = evidence(queries, values, similarities, mask, torch.tensor(self._weights[modality]))
            else:
                keys = torch.from_numpy(np.repeat(found.keys, k + 1, axis=0))
                refined = self._fusion.refine(modality, queries, values, similarities, mask, keys)
        rows: FloatArray = refined.numpy()
        return found, rows

    def _found(self, modality: Modality, query: FloatArray, row: int) -> tuple[Neighbours, Neighbours]:
        """What a row was refined with, as it is and as the fusion takes it: a label, the captions that name it."""
        if not self._weights or modality == "image":
            found = self._memory.search(query, self._k, modality=modality)
            return found, found
        if self._of_labels is None:
            task = self._task
            self._of_labels = label_neighbours(task.texts, self._memory, self._k, task.text_names)
        every, one = self._of_labels, slice(row, row + 1)
        parts = (getattr(every.neighbours, part.name)[one] for part in fields(Neighbours))
        of_label = LabelNeighbours(Neighbours(*parts), every.named[one], every.near[one])
        return of_label.neighbours, of_label.alike

    def _used(self, found: Neighbours, influence: NDArray[np.floating]) -> tuple[UsedNeighbour, ...]:
        items = self._memory.items(found.ids[0][found.mask[0]])
        return tuple(
            UsedNeighbour(
                Shown(item.caption or item.key, item.thumbnail or b""),
                float(found.similarities[0, position]),
                float(influence[position]),
            )
            for position, item in enumerate(items)
        )
