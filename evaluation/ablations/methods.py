"""The ways to answer a question: each gives the class of every image, by variant of itself.

Shapes: Q queries, C classes, D embedding dim.
"""

from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.arrangement import PAPER, Arrangement
from evaluation.ablations.world import Items, Question
from evaluation.label_sets import label_set_sides_at
from evaluation.refinement import refined_sides_at
from evaluation.ties import first_best
from evaluation.zero_shot import predictions
from models.fusion import Fusion

Predicted = NDArray[np.int64]
Answers = dict[Hashable, Predicted]
Method = Callable[[Items, Question], Answers]


def frozen(items: Items, question: Question) -> Answers:
    """CLIP alone."""
    return {"": first_best(question.images @ question.class_texts.T)}


def as_label_set(fusion: Fusion, arrangement: Arrangement = PAPER) -> Method:
    """Refined as the service classifies: the labels are weighed as a set. Variants: the scorings."""

    def answer(items: Items, question: Question) -> Answers:
        memory = items.memory(arrangement)
        ks = [fusion.config.k]
        [sides] = label_set_sides_at(question.images, question.class_texts, memory, fusion, ks, question.names)
        return dict(predictions(sides).items())

    return answer


def stand_alone(fusion: Fusion, arrangement: Arrangement = PAPER) -> Method:
    """Refined as single embeddings are: each query by the module's own weight. Variants: the scorings."""

    def answer(items: Items, question: Question) -> Answers:
        memory = items.memory(arrangement)
        [sides] = refined_sides_at(question.images, question.class_texts, memory, fusion, [fusion.config.k])
        return dict(predictions(sides).items())

    return answer


def both_ways(fusion: Fusion, arrangement: Arrangement = PAPER) -> Method:
    """Variants: the scorings of `as_label_set` and of `stand_alone`, each with the way's name before it."""

    def answer(items: Items, question: Question) -> Answers:
        ways = (("label set", as_label_set), ("stand-alone", stand_alone))
        return {
            (name, scoring): predicted
            for name, way in ways
            for scoring, predicted in way(fusion, arrangement)(items, question).items()
        }

    return answer
