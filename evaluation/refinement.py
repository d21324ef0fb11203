"""Both sides of a task before and after the memory, and the five ways to score one against the other.

Shapes: N images, M texts, B queries, D embedding dim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.array_memory import SearchesNeighbours
from memory import Modality
from models.fusion import Fusion

FloatArray = NDArray[np.float32]
Mode = Literal["none", "image", "text", "both"]  # which side is refined before they meet
Scoring = Literal["none", "image", "text", "both", "ensemble"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)  # ensemble: by the sum of the four modes' scores
_REFINE_BATCH = 1024
_BLOCK_ELEMENTS = 1 << 24  # float32 scores at a time: 64 MiB


@dataclass(frozen=True)
class Sides:
    """The embeddings of a task, float32 of unit norm: `image` and its refined form (N, D), `text` likewise (M, D)."""

    image: FloatArray
    text: FloatArray
    refined_image: FloatArray
    refined_text: FloatArray

    def of(self, mode: Mode) -> tuple[FloatArray, FloatArray]:
        """The image and the text side that meet in a mode."""
        image = self.refined_image if mode in ("image", "both") else self.image
        return image, self.refined_text if mode in ("text", "both") else self.text

    def scores(self, scoring: Scoring, queries: Modality, rows: slice | NDArray[np.int64]) -> FloatArray:
        """Some rows of the score matrix: (n, M) for image queries against all texts, (n, N) the other way."""
        if scoring == "ensemble":
            # <v,t> + <v,t̄> + <v̄,t> + <v̄,t̄> = <v+v̄, t+t̄>; a quarter of it, exactly, so that a tie is as wide
            # as in one mode
            half = np.float32(0.5)
            image, text = half * (self.image + self.refined_image), half * (self.text + self.refined_text)
        else:
            image, text = self.of(scoring)
        scores: FloatArray = image[rows] @ text.T if queries == "image" else text[rows] @ image.T
        return scores

    def blocks(self, queries: Modality) -> Iterator[slice]:
        """Row ranges of the score matrix that fit into memory."""
        count, width = len(self.image), len(self.text)
        if queries == "text":
            count, width = width, count
        step = max(1, _BLOCK_ELEMENTS // max(1, width))
        return (slice(start, min(start + step, count)) for start in range(0, count, step))


def refined_sides(
    image: FloatArray, text: FloatArray, memory: SearchesNeighbours, fusion: Fusion, *, k: int | None = None
) -> Sides:
    """Refine both sides, each with what it finds in its own modality; arguments as in `refined`."""
    return refined_sides_at(image, text, memory, fusion, [fusion.config.k if k is None else k])[0]


def refined_sides_at(
    image: FloatArray, text: FloatArray, memory: SearchesNeighbours, fusion: Fusion, ks: Sequence[int]
) -> list[Sides]:
    """`refined_sides` for several k, searched once."""
    images, texts = refined_at(image, memory, fusion, "image", ks), refined_at(text, memory, fusion, "text", ks)
    return [Sides(image, text, *pair) for pair in zip(images, texts, strict=True)]


def refined(
    queries: FloatArray, memory: SearchesNeighbours, fusion: Fusion, modality: Modality, k: int | None = None
) -> FloatArray:
    """Refined embeddings (B, D) float32, unit norm.

    Args:
        queries: (B, D) float32, unit norm, of `modality`.
        memory: searched within that modality.
        fusion: on the CPU, in evaluation mode.
        k: neighbours; None for the fusion's own.
    """
    return refined_at(queries, memory, fusion, modality, [fusion.config.k if k is None else k])[0]


@torch.inference_mode()
def refined_at(
    queries: FloatArray, memory: SearchesNeighbours, fusion: Fusion, modality: Modality, ks: Sequence[int]
) -> list[FloatArray]:
    """`refined` for several k; the memory is searched once, for the largest."""
    answers = [np.empty_like(queries) for _ in ks]
    for start in range(0, len(queries), _REFINE_BATCH):
        rows = slice(start, start + _REFINE_BATCH)
        block = np.ascontiguousarray(queries[rows])
        found = memory.search(block, max(ks), modality=modality)
        parts = [torch.from_numpy(part) for part in (found.values, found.similarities, found.mask, found.keys)]
        for k, answer in zip(ks, answers, strict=True):
            answer[rows] = fusion.refine(modality, torch.from_numpy(block), *(part[:, :k] for part in parts)).numpy()
    return answers
