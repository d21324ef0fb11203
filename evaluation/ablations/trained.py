"""What is trained by gradient: the same-size MLP without a memory, and the other designs.

Learning rate, logit scale and scoring are chosen on validation classes; then each seed is trained on its own share of
the training classes."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from evaluation.ablations.bench import Bench, K, Outcomes, best, shown_entities
from evaluation.ablations.methods import as_label_set
from evaluation.ablations.world import Items
from evaluation.controls import mlp_fusion
from models.fusion import Fusion
from models.training import TrainingPairs, train
from models.training.recipes import recipe

Kind = Literal["mlp", "gate", "copy", "faithful"]


@dataclass(frozen=True)
class Plan:
    """What to train: points to choose among, as learning rate and logit scale at the start, and the number of epochs.

    CLIP's own scale is 100; the loop starts at 1 / 0.07, as CLIP's training did.
    """

    kind: Kind
    title: str
    points: tuple[tuple[float, float], ...]
    epochs: int = 8


FRESH, CLIPS = 1 / 0.07, 100.0
MLP = Plan("mlp", "same-size MLP, no memory", tuple((rate, CLIPS) for rate in (3e-7, 1e-6, 3e-6, 1e-5, 1e-4, 1e-3)))
DESIGNS = (
    Plan("gate", "design gate", ((1e-2, FRESH), (3e-3, CLIPS), (1e-2, CLIPS), (3e-2, CLIPS))),
    Plan(
        "copy",
        "design copy",
        ((1e-3, FRESH), (3e-5, FRESH), (3e-6, CLIPS), (1e-5, CLIPS), (3e-5, CLIPS), (1e-4, CLIPS)),
    ),
    Plan("faithful", "design faithful", ((3e-4, FRESH), (1e-3, FRESH), (2e-3, FRESH), (1e-3, CLIPS))),
)


@dataclass(frozen=True)
class Trained:
    """What the seeds reach with the chosen rate, start scale and scoring; `tried` is the accuracy of all of these."""

    outcomes: Outcomes
    rate: float
    scale: float
    scoring: Hashable
    tried: dict[str, float]

    @property
    def choice(self) -> dict[str, Any]:
        """As JSON-ready data."""
        chosen = {"learning_rate": self.rate, "start_scale": round(self.scale, 2), "scoring": self.scoring}
        return {**chosen, "tried": self.tried}


def train_and_measure(bench: Bench, plan: Plan, report: Callable[[int, int], None] = lambda *_: None) -> Trained:
    """Choose, train for every seed, measure.

    Args:
        bench: where.
        plan: what.
        report: told how many trainings are done, and how many there are.
    """
    total = len(plan.points) + len(bench.worlds)
    found: dict[tuple[float, float, Hashable], float] = {}
    for done, (rate, scale) in enumerate(plan.points):
        report(done, total)
        measured = bench.validate(as_label_set(_trained(plan, bench.worlds[0].choosing, rate, scale, 0)))
        found |= {(rate, scale, scoring): one for scoring, one in measured.items() if scoring != "none"}
    rate, scale, scoring = best(found)
    fusions = []
    for seed, world in enumerate(bench.worlds):
        report(len(plan.points) + seed, total)
        fusions.append(_trained(plan, world.training, rate, scale, seed))
    report(total, total)
    outcomes = bench.measure(lambda seed: as_label_set(fusions[seed]))[scoring]
    tried = {f"rate {one[0]:g}, scale {one[1]:.3g}, {one[2]}": round(accuracy, 2) for one, accuracy in found.items()}
    return Trained(outcomes, rate, scale, scoring, tried)


def _trained(plan: Plan, items: Items, rate: float, scale: float, seed: int) -> Fusion:
    pairs = TrainingPairs.from_entities(items.pairs(shown_entities(items, seed)))
    design = "faithful" if plan.kind == "mlp" else plan.kind
    config = recipe(design, items.image.shape[1], k=K, seed=seed, epochs=plan.epochs, learning_rate=rate)
    config = replace(config, batch_size=min(config.batch_size, max(2, len(pairs) // 4)))
    torch.manual_seed(seed)  # before the weights are drawn
    fusion = mlp_fusion(config.fusion) if plan.kind == "mlp" else Fusion(config.fusion)
    fusion.logit_scale.data.fill_(math.log(scale))
    return train(pairs, config, fusion=fusion)
