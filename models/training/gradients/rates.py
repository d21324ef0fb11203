"""The learning rate, chosen by short runs on validation pairs alone."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from models.training.config import TrainConfig
from models.training.dataset.pairs import TrainingPairs
from models.training.gradients.loop import Surroundings, train
from models.training.gradients.resume import EpochReport

FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the recipe's rate
_STEPS = 200  # of a short run, at most
_VALIDATION_BATCHES = 20
_SHARE = 0.25  # of the epochs, at most


def choose_learning_rate(
    pairs: TrainingPairs,
    validation: TrainingPairs,
    config: TrainConfig,
    surroundings: Surroundings | None = None,
    report: Callable[[float, float], None] | None = None,
) -> float:
    """Train shortly at a few rates around the recipe's, on a sample of the pairs; the one that validates best.

    Args:
        surroundings: device and processes; nothing is left on disk, no steps are told.
        report: told each rate and the validation loss it reached; infinite where training fell apart.

    Raises:
        ValueError: it fell apart at every rate.
    """
    dice = torch.Generator().manual_seed(config.seed)
    some = pairs.some(_STEPS * config.batch_size, dice)
    held_out = validation.some(_VALIDATION_BATCHES * config.batch_size, dice)
    epochs = _STEPS * config.batch_size // len(some)
    short = replace(config, epochs=max(1, min(epochs, round(_SHARE * config.epochs))), patience=0)
    around = replace(surroundings or Surroundings(), state=None, progress=None)
    losses: dict[float, float] = {}
    for factor in FACTORS:
        rate = factor * config.learning_rate
        losses[rate] = _short_run(some, held_out, replace(short, learning_rate=rate), around)
        if report is not None:
            report(rate, losses[rate])
    best = min(losses, key=lambda rate: losses[rate])
    if math.isinf(losses[best]):
        raise ValueError(f"training fell apart at every rate from {min(losses):g} to {max(losses):g}")
    return best


def _short_run(some: TrainingPairs, held_out: TrainingPairs, config: TrainConfig, around: Surroundings) -> float:
    """The best validation loss of a run; infinite where its loss was no number."""
    reports: list[EpochReport] = []
    try:
        train(some, config, held_out, reports.append, around)
    except ValueError:
        return math.inf
    return min(one.validation for one in reports)
