"""Which pairs show the same thing: what the fusion must learn to tell apart, and what it must learn to ignore.

An entity is a species, a car model, a product. Pairs of one entity are found by equal captions, by the folder in their
key, or by a list of names that captions mention. Imports models.texts of ours.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.texts.names import Names
from models.training.dataset.groups import folder, number_captions, number_equal

NO_ENTITY = -1


def by_caption(captions: Sequence[str]) -> NDArray[np.int64]:
    """Pairs with equal captions, whatever their case and spaces: (N,) int64."""
    return number_captions([captions])


def by_folder(keys: Sequence[str]) -> NDArray[np.int64]:
    """Pairs whose keys lie in one folder, such as `shop/mug-blue/003`: (N,) int64."""
    return number_equal([keys], folder)


def by_names(captions: Sequence[str], names: Iterable[str]) -> NDArray[np.int64]:
    """The name that each caption mentions, as `Names` finds it: (N,) int64, -1 for captions that mention none.

    Raises:
        ValueError: if there are no names.
    """
    return Names(names).mentioned(captions)


def only_repeated(entity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Entities with at least two pairs, numbered anew from 0: (N,) int64, -1 for all other pairs."""
    known = entity[entity != NO_ENTITY]
    numbers, counts = np.unique(known, return_counts=True)
    kept = numbers[counts > 1]
    place = np.searchsorted(kept, entity)
    repeated = np.isin(entity, kept)
    return np.where(repeated, place, NO_ENTITY).astype(np.int64)
