"""What the memory holds when it is asked: all of it, a part, or what should do no good.

A condition makes the items that a question of a part meets. Shapes: N items.
"""

from collections.abc import Callable

import numpy as np

from evaluation.ablations.arrangement import PAPER, RandomNeighbours
from evaluation.ablations.world import Items, Part, Question
from evaluation.array_memory import ArrayMemory
from evaluation.duplicates import near_duplicates
from memory import DUPLICATE_COSINE

Condition = Callable[[Part, Question, int], Items]  # the last is the seed


def whole(part: Part, question: Question, seed: int) -> Items:
    """The memory as it is."""
    return part.items


def before(part: Part, question: Question, seed: int) -> Items:
    """Without what was added after fitting."""
    return part.items.kept(~part.later)


def without_classes(part: Part, question: Question, seed: int) -> Items:
    """Without every item of the entities that the images show."""
    return part.items.kept(~np.isin(part.items.entity, question.asked))


def without_copies(part: Part, question: Question, seed: int) -> Items:
    """Without every item whose image is nearly one of those that are asked about."""
    copies = near_duplicates(question.images, part.items.memory(), DUPLICATE_COSINE).item_ids
    return part.items.kept(np.setdiff1d(np.arange(len(part.items)), copies))


def share(size: float) -> Condition:
    """A random share of the items; for one seed a larger one holds the smaller."""

    def condition(part: Part, question: Question, seed: int) -> Items:
        if size == 1:
            return part.items
        order = np.random.default_rng(seed).permutation(len(part.items))
        return part.items.kept(np.sort(order[: max(1, round(size * len(order)))]))

    return condition


def permuted_captions(part: Part, question: Question, seed: int) -> Items:
    """Every caption with another item's image."""
    order = np.random.default_rng(seed).permutation(len(part.items))
    return Items(part.items.image[order], part.items.text, part.items.entity, captions=part.items.captions)


def half_mixed_up(part: Part, question: Question, seed: int) -> Items:
    """Every second caption, by chance, with another one's image."""
    dice = np.random.default_rng(seed)
    chosen = np.flatnonzero(dice.random(len(part.items)) < 0.5)
    image = part.items.image.copy()
    image[chosen] = image[dice.permutation(chosen)]
    return Items(image, part.items.text, part.items.entity, captions=part.items.captions)


def random_memory(part: Part, question: Question, seed: int) -> Items:
    """Neighbours drawn at random instead of searched."""
    items = part.items
    return Items(
        items.image, items.text, items.entity, {PAPER: RandomNeighbours(ArrayMemory(items.image, items.text), seed)}
    )


def pooled_with(noise: Items) -> Condition:
    """The memory among pairs of other things with noisy captions."""
    pooled: dict[int, Items] = {}

    def condition(part: Part, question: Question, seed: int) -> Items:
        return pooled.setdefault(id(part), part.items.joined(noise))

    return condition
