"""Zero-shot classification from embeddings: accuracy of an image against one text a class.

Shapes: N images, C classes, D embedding dim.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from memory import Memory, Modality
from models.fusion import Fusion

REFINE_BATCH = 1024


@dataclass(frozen=True)
class ZeroShotTask:
    """A classification task in one vector space.

    Attributes:
        images: (N, D) float32, unit norm.
        labels: (N,) int64, the class of each image.
        class_texts: (C, D) float32, unit norm; a class with several prompts is their mean, normalised again.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_texts: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or self.labels.max(initial=0) >= len(self.class_texts):
            raise ValueError("a zero-shot task needs one label an image, each the number of a class text")


def accuracy(task: ZeroShotTask) -> float:
    """Top-1 accuracy in percent; a tie counts for the class that comes first."""
    predicted = (task.images @ task.class_texts.T).argmax(axis=1)
    return float((predicted == task.labels).mean() * 100)


def refined_task(
    task: ZeroShotTask, memory: Memory, fusion: Fusion, *, k: int | None = None
) -> dict[str, ZeroShotTask]:
    """The task in all four modes: which sides are refined before they meet.

    Args:
        task: with original embeddings.
        memory: searched with each side's own modality.
        fusion: refines; on the CPU.
        k: neighbours; None for the fusion's own.

    Returns:
        `none`, `image`, `text` and `both`.
    """
    image = replace(task, images=refined(task.images, memory, fusion, "image", k))
    text = replace(task, class_texts=refined(task.class_texts, memory, fusion, "text", k))
    return {"none": task, "image": image, "text": text, "both": replace(image, class_texts=text.class_texts)}


@torch.inference_mode()
def refined(
    queries: NDArray[np.float32], memory: Memory, fusion: Fusion, modality: Modality, k: int | None = None
) -> NDArray[np.float32]:
    """Refined embeddings (B, D) float32, unit norm, of queries (B, D) of one modality."""
    parts = []
    for start in range(0, len(queries), REFINE_BATCH):
        block = np.ascontiguousarray(queries[start : start + REFINE_BATCH])
        found = memory.search(block, k or fusion.config.k, modality=modality)
        arrays = (block, found.values, found.similarities, found.mask)
        parts.append(fusion.side(modality)(*map(torch.from_numpy, arrays)).numpy())
    return np.concatenate(parts)
