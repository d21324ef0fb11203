"""Which pairs of a memory to train on and which to validate on, by the pattern of their keys or at random."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from memory import SearchableMemory
from models.training.dataset.groups import number_equal

VALIDATION_SHARE = 0.05


def split_by_key(
    memory: SearchableMemory, training: list[str], validation: list[str], *, seed: int = 0
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
    return _split(
        lambda: memory.blocks("key"),
        lambda: memory.blocks("caption"),
        memory.deleted_ids(),
        (training, validation),
        seed,
    )


def split_keys(
    keys: Sequence[str], captions: Sequence[str], training: list[str], validation: list[str], *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `split_by_key`, of items that lie in no memory: their places among `keys` instead of ids."""
    return _split(lambda: [keys], lambda: [captions], np.empty(0, dtype=np.int64), (training, validation), seed)


def _split(
    keys: Callable[[], Iterable[Sequence[str]]],
    captions: Callable[[], Iterable[Sequence[str]]],
    deleted: NDArray[np.int64],
    patterns: tuple[list[str], list[str]],
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and captions come in blocks, anew at each call: of millions, only a number each is kept."""
    training, validation = patterns
    chosen = _matching(keys(), training)
    chosen[deleted] = False
    if validation:
        held_out = _matching(keys(), validation)
        held_out[deleted] = False
    else:
        group = number_equal(captions())
        lots = np.random.default_rng(seed).random(int(group.max(initial=0)) + 1)
        held_out = chosen & (lots[group] < VALIDATION_SHARE)
    parts = np.flatnonzero(chosen & ~held_out), np.flatnonzero(held_out)
    for part, told in zip(parts, (training, validation or ["a random 5 %"]), strict=True):
        if len(part) < 2:
            first = next((key for block in keys() for key in block), "")
            raise ValueError(
                f"{len(part)} of {len(chosen) - len(deleted):,} items match {', '.join(told)}: "
                f"at least two are needed; keys look like {first!r}"
            )
    return parts


def _matching(keys: Iterable[Sequence[str]], patterns: list[str]) -> NDArray[np.bool_]:
    """Which keys match one of the patterns: (rows,) bool."""
    blocks = [
        np.fromiter((any(fnmatchcase(key, one) for one in patterns) for key in block), dtype=bool, count=len(block))
        for block in keys
    ]
    return np.concatenate([*blocks, np.empty(0, dtype=bool)])
