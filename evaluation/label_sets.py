"""Both sides of a classification refined as the service does it: the labels are told apart, and weighed as a set.

Shapes: N images, C labels, K neighbours, D embedding dim.
"""

from collections.abc import Sequence

import numpy as np
import torch

from evaluation.array_memory import SearchesNeighbours
from evaluation.refinement import FloatArray, Sides, refined_sides_at
from memory import Neighbours
from models.fusion import Fusion
from models.fusion.label_set import LabelSetWeights, weigh_label_set
from models.label_captions import LabelCaptions, LabelNeighbours

_BATCH = 1024  # images at a time


def label_set_sides_at(
    images: FloatArray,
    labels: FloatArray,
    memory: SearchesNeighbours,
    fusion: Fusion,
    ks: Sequence[int],
    names: Sequence[str] | None = None,
) -> list[Sides]:
    """Refine images and label texts for several k; for fusions that weigh no label sets as any two sides.

    Args:
        images: (N, D) float32, unit norm.
        labels: (C, D) float32, unit norm, one a class.
        memory: searched within each side's modality, for the largest k.
        fusion: on the CPU, in evaluation mode.
        ks: neighbours a query.
        names: (C,) of the labels, which captions may mention; None where they are not known.
    """
    if fusion.evidence("text") is None:
        return refined_sides_at(images, labels, memory, fusion, ks)
    texts, weights = list[FloatArray](), list[float]()
    for k in ks:  # one after the other: what many labels find takes room
        found = _search(labels, memory, k, names)
        weight = _weigh(labels, found, fusion)
        texts.append(_refined(fusion, labels, found.alike, weight.text))
        weights.append(weight.image)
    refined = _weighed_images(fusion, images, memory, ks, weights)
    return [Sides(images, labels, *pair) for pair in zip(refined, texts, strict=True)]


def label_set_weights(
    labels: FloatArray, memory: SearchesNeighbours, fusion: Fusion, k: int, names: Sequence[str] | None = None
) -> LabelSetWeights | None:
    """The weights that a set of labels (C, D) gets from a memory; None for fusions that know none."""
    if fusion.evidence("text") is None:
        return None
    return _weigh(labels, _search(labels, memory, k, names), fusion)


def label_neighbours(
    labels: FloatArray, memory: SearchesNeighbours, k: int, names: Sequence[str] | None = None
) -> LabelNeighbours:
    """What a set of labels (C, D) is refined with; of the keys only the first of each label."""
    return _search(labels, memory, k, names)


def _search(labels: FloatArray, memory: SearchesNeighbours, k: int, names: Sequence[str] | None) -> LabelNeighbours:
    """What the labels find, as the service looks them up."""
    known = names is not None and memory.captions(np.empty(0, dtype=np.int64)) is not None
    return LabelCaptions(names if known and names else [], memory).look_up(labels, k)


def _weigh(labels: FloatArray, found: LabelNeighbours, fusion: Fusion) -> LabelSetWeights:
    neighbours = found.alike
    given = (*_tensors(labels, neighbours, neighbours.mask.shape[1]), torch.from_numpy(neighbours.keys))
    named, near = torch.from_numpy(found.named), torch.from_numpy(found.near)
    weights = weigh_label_set(fusion, *given, named=named, near=near)
    assert weights is not None, "only asked of a fusion that weighs label sets"
    return weights


@torch.inference_mode()
def _refined(fusion: Fusion, labels: FloatArray, found: Neighbours, weight: float) -> FloatArray:
    if not weight:
        return labels
    evidence = fusion.evidence("text")
    assert evidence is not None, "whoever has weights has it"
    rows: FloatArray = evidence(*_tensors(labels, found, found.mask.shape[1]), torch.tensor(weight)).numpy()
    return rows


@torch.inference_mode()
def _weighed_images(
    fusion: Fusion, images: FloatArray, memory: SearchesNeighbours, ks: Sequence[int], weights: Sequence[float]
) -> list[FloatArray]:
    # Weight 0 leaves a query as it is: the very array, for normalising it again would round it.
    answers = [np.empty_like(images) if weight else images for weight in weights]
    if not any(weights):
        return answers
    for start in range(0, len(images), _BATCH):
        rows = slice(start, start + _BATCH)
        block = np.ascontiguousarray(images[rows])
        found = memory.search(block, max(ks), modality="image")
        for k, weight, answer in zip(ks, weights, answers, strict=True):
            if weight:
                evidence = fusion.evidence("image")
                assert evidence is not None, "whoever has weights has it"
                answer[rows] = evidence(*_tensors(block, found, k), torch.tensor(weight)).numpy()
    return answers


def _tensors(
    queries: FloatArray, found: Neighbours, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = (queries, found.values[:, :k], found.similarities[:, :k], found.mask[:, :k])
    query, values, similarities, mask = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return query, values, similarities, mask
