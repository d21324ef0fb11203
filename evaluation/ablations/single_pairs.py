"""A world whose memories hold one pair an entity, as a catalogue with one photo a product."""

from dataclasses import replace

import numpy as np

from evaluation.ablations.world import Items, Part, World
from models.training.dataset.entities import NO_ENTITY


def with_single_pairs(world: World, seed: int) -> World:
    """The world with one item of each entity, drawn at random, in every memory; what is fitted on stays as it is.

    Args:
        world: of any captions. Items of no entity are left out.
        seed: of the draw.
    """

    def part(one: Part) -> Part:
        rows = one_each(one.items, seed)
        return Part(one.items.kept(rows), one.later[rows], one.questions)

    return replace(
        world,
        parts=tuple(part(one) for one in world.parts),
        validation=tuple(part(one) for one in world.validation),
        noise=None,
    )


def one_each(items: Items, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The places of one item of each entity, ascending."""
    order = np.random.default_rng([seed, 9]).permutation(np.flatnonzero(items.entity != NO_ENTITY))
    _, first = np.unique(items.entity[order], return_index=True)
    return np.sort(order[first])
