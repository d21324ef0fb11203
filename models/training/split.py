"""Which pairs of a memory to train on and which to validate on, by the pattern of their keys or at random."""

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from memory import Memory

VALIDATION_SHARE = 0.05


def split_by_key(
    memory: Memory, training: list[str], validation: list[str], *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the items whose keys match.

    Args:
        training: patterns such as `shop/*`; an item that matches one of them is trained on.
        validation: patterns of items to validate on, which are then not trained on. With none, a random share of
            the captions (not of the items: equal captions stay together) is held out.

    Returns:
        Ids (N,) int64 to train on and to validate on, in id order.

    Raises:
        ValueError: if either part has fewer than two items.
    """
    keys = memory.keys()
    chosen = np.array([_matches(key, training) for key in keys], dtype=bool)
    if validation:
        held_out = np.array([_matches(key, validation) for key in keys], dtype=bool)
    else:
        _, group = np.unique(np.asarray(memory.captions()), return_inverse=True)
        lots = np.random.default_rng(seed).random(group.max() + 1)
        held_out = chosen & (lots[group] < VALIDATION_SHARE)
    parts = np.flatnonzero(chosen & ~held_out), np.flatnonzero(held_out)
    for part, patterns in zip(parts, (training, validation or ["a random 5 %"]), strict=True):
        if len(part) < 2:
            raise ValueError(
                f"{len(part)} of {len(keys):,} items match {', '.join(patterns)}: at least two are needed; "
                f"keys look like {keys[0]!r}"
            )
    return parts


def _matches(key: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
