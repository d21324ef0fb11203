"""Where methods are measured: by seed, over all parts of a world, every column of it.

Shapes: S seeds, Q queries of a column over all parts.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.ablations.arranged_pairs import ArrangedPairs
from evaluation.ablations.arrangement import PAPER, Arrangement
from evaluation.ablations.conditions import Condition, whole
from evaluation.ablations.methods import Method
from evaluation.ablations.world import Items, Part, World
from models.fusion import Fusion
from models.training.fitting.evidence import fit_evidence
from models.training.recipes import fusion_config

K = 10
FITTED_SHARE = 0.9  # of the training entities, drawn anew for each seed
Outcomes = dict[str, NDArray[np.bool_]]  # by column, (S, Q): whether each image got its class
Variant = TypeVar("Variant", bound=Hashable)
Correct = dict[str, NDArray[np.bool_]]  # the same of one seed, (Q,)


def ask(method: Method, parts: Sequence[Part], condition: Condition, seed: int) -> dict[Hashable, Correct]:
    """Which images of each column get their class, by variant of the method; the parts one after the other."""
    answered: dict[Hashable, dict[str, list[NDArray[np.bool_]]]] = {}
    for part in parts:
        met: dict[bytes, Items] = {}  # questions about the same entities meet the same items, searched once
        for column, question in part.questions.items():
            asked = question.asked.tobytes()
            if asked not in met:
                met[asked] = condition(part, question, seed)
            for variant, predicted in method(met[asked], question).items():
                answered.setdefault(variant, {}).setdefault(column, []).append(predicted == question.labels)
    return {
        variant: {column: np.concatenate(found) for column, found in columns.items()}
        for variant, columns in answered.items()
    }


@dataclass(frozen=True)
class Bench:
    """A world for each seed (the same one, but for noise that is drawn anew)."""

    worlds: tuple[World, ...]

    @classmethod
    def of(cls, world: World, seeds: int) -> "Bench":
        """The same world for every seed."""
        return cls((world,) * seeds)

    def measure(self, method: Callable[[int], Method], condition: Condition = whole) -> dict[Hashable, Outcomes]:
        """Outcomes by variant.

        Args:
            method: makes the method of a seed.
            condition: of the memories.
        """
        by_seed = [ask(method(seed), world.parts, condition, seed) for seed, world in enumerate(self.worlds)]
        return {
            variant: {column: np.stack([one[variant][column] for one in by_seed]) for column in columns}
            for variant, columns in by_seed[0].items()
        }

    def choose(self, method: Method) -> Hashable:
        """The variant that does best on the validation parts of the first world, as mean over its columns."""
        return best(self.validate(method))

    def validate(self, method: Method) -> dict[Hashable, float]:
        """Accuracy in percent on the validation parts, mean over their columns, by variant."""
        found = ask(method, self.worlds[0].validation, whole, 0)
        return {
            variant: float(np.mean([column.mean() for column in columns.values()]) * 100)
            for variant, columns in found.items()
        }

    def fitted(self, k: int = K, arrangement: Arrangement = PAPER) -> list[Fusion]:
        """The default design, fitted for each seed on a random share of the training entities."""
        return [fit(world.training, seed, k, arrangement) for seed, world in enumerate(self.worlds)]

    def fitted_for_choosing(self, arrangement: Arrangement = PAPER) -> Fusion:
        """The default design, fitted without the validation entities."""
        return fit(self.worlds[0].choosing, 0, K, arrangement)


def best(accuracies: dict[Variant, float]) -> Variant:
    """The variant with the highest accuracy; of equals the first."""
    return max(accuracies, key=lambda variant: accuracies[variant])


def shown_entities(items: Items, seed: int) -> NDArray[np.int64]:
    """The entities that a seed is fitted on."""
    order = np.random.default_rng(seed).permutation(items.entities)
    return np.sort(order[: round(FITTED_SHARE * len(order))])


def fit(items: Items, seed: int, k: int = K, arrangement: Arrangement = PAPER) -> Fusion:
    """The default design, fitted on the seed's share of the entities."""
    pairs = items.pairs(shown_entities(items, seed))
    if arrangement != PAPER:
        pairs = ArrangedPairs.of(pairs, arrangement)
    return fit_evidence(pairs, fusion_config("evidence", items.image.shape[1], k), seed)
