"""Which pairs of a memory to train on and which to validate on, by the pattern of their keys or at random."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from memory import SearchableMemory
from models.training.dataset.groups import number_alike, number_captions

VALIDATION_SHARE = 0.05
_LEAST = 2  # pairs of a part: a contrastive loss tells one from another


def split_by_key(
    memory: SearchableMemory, training: list[str], validation: list[str], *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the items whose keys match.

    Args:
        training: patterns such as `shop/*`; an item that matches one of them is trained on.
        validation: patterns of items to validate on, which are then not trained on. With none, a random share of
            what belongs together (not of the items: equal captions and images stay together) is held out.

    Returns:
        Ids (N,) int64 to train on and to validate on, in id order.

    Raises:
        ValueError: if either part has fewer than two items.
    """
    chosen, held_out = choose_by_key(memory, training, validation)
    if held_out is not None:
        return chosen, held_out
    return hold_out(chosen, number_alike(memory, chosen), seed)


def choose_by_key(
    memory: SearchableMemory, training: list[str], validation: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """As `split_by_key`, but that nothing is held out at random: None instead, and all that match are chosen."""
    return _choose(lambda: memory.blocks("key"), memory.deleted_ids(), training, validation)


def split_keys(
    keys: Sequence[str], captions: Sequence[str], training: list[str], validation: list[str], *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `split_by_key`, of items that lie in no memory: their places among `keys` instead of ids."""
    chosen, held_out = _choose(lambda: [keys], np.empty(0, dtype=np.int64), training, validation)
    return (chosen, held_out) if held_out is not None else hold_out(chosen, number_captions([captions]), seed)


def hold_out(
    ids: NDArray[np.int64], group: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a random share of the groups: at least two pairs, of small memories more than the share.

    Args:
        ids: (N,) to split.
        group: (rows,) int64 of all rows; what belongs together is not torn apart.

    Returns:
        Ids to train on and to validate on, in id order.

    Raises:
        ValueError: two pairs cannot be held out with two left to train on.
    """
    lots = np.random.default_rng(seed).random(int(group.max(initial=0)) + 1)[group[ids]]
    held_out = lots < VALIDATION_SHARE
    if min(np.count_nonzero(held_out), np.count_nonzero(~held_out)) < _LEAST:
        held_out = _fewest(lots)
    return ids[~held_out], ids[held_out]


def _fewest(lots: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs (N,) to hold out where the share is too small: whole groups by their lot, until two pairs are."""
    taken, count = list[float](), 0
    numbers, sizes = np.unique(lots, return_counts=True)
    for lot, size in zip(numbers, sizes, strict=True):
        if len(lots) - count - size >= _LEAST:
            taken.append(lot)
            count += size
        if count >= _LEAST:
            return np.isin(lots, taken)
    if len(numbers) == 1:
        raise ValueError(f"all {len(lots):,} pairs have the same caption or image: there is nothing to tell apart")
    raise ValueError(
        f"{len(lots):,} pairs with {len(numbers)} different captions and images: too few to hold some out to "
        "validate on, for two are needed and two to train on; add pairs, or say with --validate which to validate on"
    )


def _choose(
    keys: Callable[[], Iterable[Sequence[str]]],
    deleted: NDArray[np.int64],
    training: list[str],
    validation: list[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Keys come in blocks, anew at each call: of millions, only a number each is kept."""
    chosen = _matching(keys(), training)
    chosen[deleted] = False
    _check(chosen, training, deleted, keys)
    if not validation:
        return np.flatnonzero(chosen), None
    held_out = _matching(keys(), validation)
    held_out[deleted] = False
    _check(held_out, validation, deleted, keys)
    left = np.flatnonzero(chosen & ~held_out)
    if len(left) < _LEAST:
        raise ValueError(
            f"{len(left)} of {np.count_nonzero(chosen):,} items are left to train on, for those that match "
            f"{', '.join(validation)} are to be validated on: name fewer with --validate"
        )
    return left, np.flatnonzero(held_out)


def _check(
    matched: NDArray[np.bool_],
    patterns: list[str],
    deleted: NDArray[np.int64],
    keys: Callable[[], Iterable[Sequence[str]]],
) -> None:
    count = np.count_nonzero(matched)
    if count < _LEAST:
        first = next((key for block in keys() for key in block), "")
        raise ValueError(
            f"{count} of {len(matched) - len(deleted):,} items match {', '.join(patterns)}: "
            f"at least two are needed; keys look like {first!r}"
        )


def _matching(keys: Iterable[Sequence[str]], patterns: list[str]) -> NDArray[np.bool_]:
    """Which keys match one of the patterns: (rows,) bool."""
    blocks = [
        np.fromiter((any(fnmatchcase(key, one) for one in patterns) for key in block), dtype=bool, count=len(block))
        for block in keys
    ]
    return np.concatenate([*blocks, np.empty(0, dtype=bool)])
