"""A world whose names CLIP knows less well: every entity's text is moved by noise, in questions and captions alike.

t' = norm(t + sigma * s * g / sqrt(D)) with g ~ N(0, I) of the entity and s the mean distance of the class texts to
their mean. What a name looks like stays; what it says is lost. Shapes: E entities, C classes, D embedding dim.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.world import FloatArray, Items, Part, World


def with_weak_names(world: World, sigma: float, seed: int) -> World:
    """The world with one draw of the noise.

    Args:
        world: where captions are names (`weakenable`).
        sigma: 0 leaves the names as they are.
        seed: of the noise.
    """
    texts = max((one for part in world.parts for one in part.questions.values()), key=lambda one: len(one.entity))
    spread = float(np.linalg.norm(texts.class_texts - texts.class_texts.mean(axis=0), axis=1).mean())
    count, dim = int(texts.entity.max()) + 1, texts.class_texts.shape[1]
    noise = np.random.default_rng([seed, 8]).standard_normal((count, dim)) * (sigma * spread / np.sqrt(dim))

    def moved(text: FloatArray, entity: NDArray[np.int64]) -> FloatArray:
        sums = (text + noise[entity]).astype(np.float32)
        rows: FloatArray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return rows

    def items(one: Items) -> Items:
        return Items(one.image, moved(one.text, one.entity), one.entity)

    def part(one: Part) -> Part:
        questions = {
            name: replace(question, class_texts=moved(question.class_texts, question.entity))
            for name, question in one.questions.items()
        }
        return Part(items(one.items), one.later, questions)

    return replace(
        world,
        training=items(world.training),
        choosing=items(world.choosing),
        parts=tuple(part(one) for one in world.parts),
        validation=tuple(part(one) for one in world.validation),
    )
