"""What a search returns, and the two modalities. Imports numpy only.

Shapes: B queries, K neighbours per query, D embedding dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["image", "text"]
MODALITIES: Final[tuple[Modality, ...]] = ("image", "text")
OTHER_MODALITY: Final[Mapping[Modality, Modality]] = {"image": "text", "text": "image"}


@dataclass(frozen=True)
class Neighbours:
    """The nearest items of each query, best first; equal similarities are ordered by id.

    Attributes:
        ids: (B, K) int64 global item ids, -1 where the memory had fewer than K items.
        similarities: (B, K) float32 inner products with the searched side, 0.0 where missing, never NaN.
        values: (B, K, D) float32, the *other* modality's embedding of each neighbour, unit norm; zeros
            where missing.
        keys: (B, K, D) float32, the *searched* side's embedding of each neighbour, likewise.
        mask: (B, K) bool, True = a real neighbour.
    """

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]
    values: NDArray[np.float32]
    keys: NDArray[np.float32]
    mask: NDArray[np.bool_]
