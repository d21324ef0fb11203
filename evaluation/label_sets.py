"""Both sides of a classification refined as the service does it: the labels are told apart, and weighed as a set.

Shapes: N images, C labels, K neighbours, D embedding dim.
"""

from collections.abc import Sequence

import numpy as np
import torch

from evaluation.array_memory import SearchesNeighbours
from evaluation.refinement import FloatArray, Sides, refined_sides_at
from memory import Modality, Neighbours
from models.fusion import Fusion
from models.fusion.label_set import LabelSetWeights, weigh_label_set

_BATCH = 1024


def label_set_sides_at(
    images: FloatArray, labels: FloatArray, memory: SearchesNeighbours, fusion: Fusion, ks: Sequence[int]
) -> list[Sides]:
    """Refine images and label texts for several k; for designs without label-set weights as any two sides.

    Args:
        images: (N, D) float32, unit norm.
        labels: (C, D) float32, unit norm, one a class.
        memory: searched within each side's modality, for the largest k.
        fusion: on the CPU, in evaluation mode.
    """
    found = memory.search(np.ascontiguousarray(labels), max(ks), modality="text")
    weights = [_weigh(labels, found, fusion, k) for k in ks]
    if any(weight is None for weight in weights):
        return refined_sides_at(images, labels, memory, fusion, ks)
    chosen = [weight for weight in weights if weight is not None]
    texts = _weighed(fusion, "text", labels, memory, ks, [weight.text for weight in chosen])
    refined = _weighed(fusion, "image", images, memory, ks, [weight.image for weight in chosen])
    return [Sides(images, labels, *pair) for pair in zip(refined, texts, strict=True)]


def label_set_weights(labels: FloatArray, memory: SearchesNeighbours, fusion: Fusion, k: int) -> LabelSetWeights | None:
    """The weights that a set of labels (C, D) gets from a memory; None for designs without."""
    found = memory.search(np.ascontiguousarray(labels), k, modality="text")
    return _weigh(labels, found, fusion, k)


def _weigh(labels: FloatArray, found: Neighbours, fusion: Fusion, k: int) -> LabelSetWeights | None:
    texts, values, similarities, mask = _tensors(labels, found, k)
    return weigh_label_set(fusion, texts, values, similarities, mask, torch.from_numpy(found.keys[:, :1]))


@torch.inference_mode()
def _weighed(
    fusion: Fusion,
    modality: Modality,
    queries: FloatArray,
    memory: SearchesNeighbours,
    ks: Sequence[int],
    weights: Sequence[float],
) -> list[FloatArray]:
    # Weight 0 leaves a query as it is: the very array, for normalising it again would round it.
    answers = [np.empty_like(queries) if weight else queries for weight in weights]
    if not any(weights):
        return answers
    for start in range(0, len(queries), _BATCH):
        rows = slice(start, start + _BATCH)
        block = np.ascontiguousarray(queries[rows])
        found = memory.search(block, max(ks), modality=modality)
        for k, weight, answer in zip(ks, weights, answers, strict=True):
            if not weight:
                continue
            evidence = fusion.evidence(modality)
            assert evidence is not None, "whoever has weights has it"
            refined = evidence(*_tensors(block, found, k), torch.tensor(weight))
            answer[rows] = refined.numpy()
    return answers


def _tensors(
    queries: FloatArray, found: Neighbours, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = (queries, found.values[:, :k], found.similarities[:, :k], found.mask[:, :k])
    query, values, similarities, mask = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return query, values, similarities, mask
