"""Which pairs of a memory to train on and which to validate on, by the pattern of their keys or at random."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from memory import SearchableMemory
from models.training.dataset.groups import number_alike

VALIDATION_SHARE = 0.05
_LEAST = 2  # pairs of a part, and groups among them: a contrastive loss tells one from another


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
        ValueError: if either part has fewer than two items, or too few that differ.
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


def choose_keys(
    keys: Sequence[str], training: list[str], validation: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """As `choose_by_key`, of items that lie in no memory: their places among `keys` instead of ids."""
    return _choose(lambda: [keys], np.empty(0, dtype=np.int64), training, validation)


def hold_out(
    ids: NDArray[np.int64], group: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a random share of the pairs, whole groups of them.

    Args:
        ids: (N,) to split.
        group: (rows,) int64 of all rows; what belongs together is not torn apart.

    Returns:
        Ids to train on and to validate on, in id order.

    Raises:
        ValueError: fewer than four groups.
    """
    order = np.random.default_rng(seed).permutation(len(ids))
    held_out = whole_groups(group[ids], order, round(VALIDATION_SHARE * len(ids)))
    return ids[~held_out], ids[held_out]


def whole_groups(group: NDArray[np.int64], order: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which pairs (N,) to hold out: whole groups, at most so many pairs, but two groups however large they are.

    All pairs of one group are right for each other: where it is alone, the loss of training that helps rises. Half of
    the groups stay at least, so that many small ones do not leave a large one alone.

    Args:
        group: (N,) int64; what belongs together has equal numbers.
        order: (N,) the places of the pairs, as they are drawn; a group has its turn at its first pair.
        most: pairs.

    Raises:
        ValueError: fewer than four groups, for two are to be told apart on either side.
    """
    numbers, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
    if len(numbers) == 1:
        raise ValueError(f"all {len(group):,} pairs have the same caption or image: there is nothing to tell apart")
    if len(numbers) < 2 * _LEAST:
        raise ValueError(
            f"{len(group):,} pairs with {len(numbers)} different captions and images: too few to hold some out, for "
            "two of these are needed to measure on and two to train on; add pairs, or say with --design what to train "
            "and with --validate which to validate on"
        )
    turns = np.argsort(first).tolist()
    taken, count = list[int](), 0
    for one in turns:
        if count + sizes[one] <= most:
            taken.append(one)
            count += sizes[one]
        if count >= most or 2 * (len(taken) + 1) > len(numbers):
            break
    if len(taken) < _LEAST:
        smallest = sorted(set(turns) - set(taken), key=lambda one: (sizes[one], first[one]))
        taken += smallest[: _LEAST - len(taken)]
    return np.isin(group, numbers[taken])


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
