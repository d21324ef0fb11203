"""What counts as equal among scores: whatever float32 rounding may have made of equal embeddings.

The same product comes out a little different with another number of rows, so that without a tolerance the answer to
one image would depend on how many are asked at once. Shapes: Q queries, M answers.
"""

import numpy as np
from numpy.typing import NDArray

TIE = np.float32(1e-6)


def first_best(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The first (Q,) of the answers of each query that score highest, or within `TIE` of it.

    Args:
        scores: (Q, M), higher is better; where they exceed 1, the tolerance grows with them, as rounding does.
    """
    best = scores.max(axis=1, keepdims=True)
    found: NDArray[np.int64] = (scores >= best - TIE * np.maximum(1, np.abs(best))).argmax(axis=1)
    return found
