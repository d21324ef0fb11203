"""Controls without training: mixtures of the query, its neighbours and their labels. Their numbers are chosen on
validation classes. Each gives an answer for every point of a grid, and is asked again for the chosen one.

Shapes: Q queries, C classes, K neighbours, D embedding dim, N items.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.ablations.arrangement import PAPER, Arrangement
from evaluation.ablations.bench import K
from evaluation.ablations.methods import Answers, Method
from evaluation.ablations.world import FloatArray, Items, Question
from evaluation.controls import WEIGHTS as MEAN_WEIGHTS
from evaluation.ties import first_best
from memory import Modality
from models.fusion import Fusion

Weights = tuple[float, float]  # of the image and of the text side
_MEAN_WEIGHTS = sorted({*MEAN_WEIGHTS, 0.02, 0.05, 0.1, 0.15, 0.2})  # where names are strong, little is best
MEAN_GRID: tuple[Weights, ...] = tuple((image, text) for image in _MEAN_WEIGHTS for text in _MEAN_WEIGHTS)
MIXING_GRID = (1.0, 0.99, 0.98, 0.96, *(float(alpha) for alpha in np.linspace(0.95, 0, 20).round(2)))
EVIDENCE_GRID: tuple[Weights, ...] = tuple(
    (image, text) for text in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0, 16.0) for image in (0.0, 0.03, 0.1, 0.3, 1.0)
)
TipPoint = tuple[float, float, int]  # alpha, beta, and how many nearest images vote; 0 for all
TIP_GRID: tuple[TipPoint, ...] = tuple(
    (alpha, beta, voters)
    for voters in (0, K)
    for beta in (1.0, 3.0, 5.5, 10.0, 20.0, 50.0)
    for alpha in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
)
_SCALE = 100.0  # CLIP's logit scale, as Tip-Adapter has it


def mean_fusion(grid: Sequence[Weights]) -> Method:
    """norm((1 - weight) * query + weight * norm(mean of the values)), on both sides."""

    def answer(items: Items, question: Question) -> Answers:
        images, texts = _means(items, question.images, "image"), _means(items, question.class_texts, "text")
        moved_images = {weight: _mixed(question.images, images, weight) for weight in {image for image, _ in grid}}
        moved_texts = {weight: _mixed(question.class_texts, texts, weight) for weight in {text for _, text in grid}}
        return {point: first_best(moved_images[point[0]] @ moved_texts[point[1]].T) for point in grid}

    return answer


def score_mixing(grid: Sequence[float]) -> Method:
    """alpha * <v, t> + (1 - alpha) * <mean retrieved text, t>."""

    def answer(items: Items, question: Question) -> Answers:
        own = question.images @ question.class_texts.T
        retrieved = _means(items, question.images, "image") @ question.class_texts.T
        return {alpha: first_best(alpha * own + (1 - alpha) * retrieved) for alpha in grid}

    return answer


def tip_adapter(grid: Sequence[TipPoint]) -> Method:
    """100 <v, t> + alpha * sum of exp(-beta * (1 - <v, v_i>)) over the images of the class; k-NN where few vote."""

    def answer(items: Items, question: Question) -> Answers:
        own = _SCALE * question.images @ question.class_texts.T
        classes = _classes(items, question)
        affinity = question.images @ items.image.T  # (Q, N)
        votes: dict[tuple[float, int], FloatArray] = {}
        for _, beta, voters in grid:
            if (beta, voters) not in votes:
                votes[beta, voters] = _votes(affinity, classes, len(question.class_texts), beta, voters)
        return {point: first_best(own + point[0] * votes[point[1:]]) for point in grid}

    return answer


def fixed_weights(fusion: Fusion, grid: Sequence[Weights], arrangement: Arrangement = PAPER) -> Method:
    """The evidence design with one weight for all queries of a side."""

    @torch.inference_mode()
    def answer(items: Items, question: Question) -> Answers:
        images, texts = (
            {
                weight: _refined(fusion, items, queries, modality, arrangement, weight)
                for weight in {point[place] for point in grid}
            }
            for place, (modality, queries) in enumerate(_sides(question))
        )
        return {point: first_best(images[point[0]] @ texts[point[1]].T) for point in grid}

    return answer


def _sides(question: Question) -> tuple[tuple[Modality, FloatArray], tuple[Modality, FloatArray]]:
    return ("image", question.images), ("text", question.class_texts)


def _refined(
    fusion: Fusion, items: Items, queries: FloatArray, modality: Modality, arrangement: Arrangement, weight: float
) -> FloatArray:
    found = items.memory(arrangement).search(queries, fusion.config.k, modality=modality)
    query, values, similarities, mask = map(torch.from_numpy, (queries, found.values, found.similarities, found.mask))
    rows: FloatArray = fusion.side(modality)(query, values, similarities, mask, torch.tensor(weight)).numpy()
    return rows


def _means(items: Items, queries: FloatArray, modality: Modality) -> FloatArray:
    """The mean value of each query's neighbours, normalised; zero without any."""
    found = items.memory().search(queries, K, modality=modality)
    sums = found.values.sum(axis=1)
    rows: FloatArray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return rows


def _mixed(queries: FloatArray, means: FloatArray, weight: float) -> FloatArray:
    sums = (1 - weight) * queries + weight * means
    rows: FloatArray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return rows


def _classes(items: Items, question: Question) -> NDArray[np.int64]:
    """The class (N,) of each item among those of the question, -1 for none."""
    order = np.argsort(question.entity)
    place = np.minimum(np.searchsorted(question.entity[order], items.entity), len(order) - 1)
    return np.where(question.entity[order][place] == items.entity, order[place], -1)


def _votes(affinity: FloatArray, classes: NDArray[np.int64], num_classes: int, beta: float, voters: int) -> FloatArray:
    """(Q, C): the sum of each class's votes."""
    weights = torch.from_numpy(np.exp(-beta * (1 - affinity)))
    if 0 < voters < weights.shape[1]:
        least = weights.topk(voters, dim=1).values[:, -1:]
        weights = weights * (weights >= least)
    known = torch.from_numpy(np.flatnonzero(classes >= 0))
    votes = torch.zeros(len(weights), num_classes)
    votes.index_add_(1, torch.from_numpy(classes)[known], weights[:, known])
    sums: FloatArray = votes.numpy()
    return sums
