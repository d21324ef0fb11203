"""The default design on real CLIP ViT-B/32 embeddings: what it gains, and where it must not harm (docs/ablations.md).

Skipped where there are no real data. Fitted on training classes; measured, never chosen, on the
images of 400 classes that were not fitted on. Two seeds here, five in the documents.
"""

from pathlib import Path

import numpy as np
import pytest

from evaluation.ablations.arrangement import ARRANGEMENTS, PAPER
from evaluation.ablations.bench import Bench, Outcomes
from evaluation.ablations.conditions import permuted_captions, pooled_with, random_memory, without_classes
from evaluation.ablations.context import DEFAULT, Context
from evaluation.ablations.fewshot import load_fewshot
from evaluation.ablations.other_words import with_other_words
from evaluation.ablations.weak_names import with_weak_names
from evaluation.ablations.world import World
from evaluation.bootstrap import Bootstrap

SEEDS = 2
MANY, FEW = "1000-way", "400-way"


@pytest.fixture(scope="module")
def real(few_shot: Path) -> World:
    return load_fewshot(few_shot)


@pytest.fixture(scope="module")
def context(real: World) -> Context:
    return Context(Bench.of(real, SEEDS), Bootstrap(resamples=0))


def gains(outcomes: Outcomes, reference: Outcomes, column: str) -> np.ndarray:
    """Points over the reference, one a seed."""
    return (outcomes[column].mean(axis=1) - reference[column].mean(axis=1)) * 100


def test_the_frozen_accuracies_are_the_known_ones(real: World) -> None:
    """What pins the split, the swap and the label sets down."""
    accuracies = [
        [
            float(((one.images @ one.class_texts.T).argmax(axis=1) == one.labels).mean() * 100)
            for one in part.questions.values()
        ]
        for part in real.parts
    ]
    np.testing.assert_allclose(accuracies, [[63.6, 75.6], [67.1, 76.7]], atol=0.06)
    assert real.columns == (MANY, FEW)


def test_the_default_gains_on_classes_it_was_not_fitted_on(context: Context) -> None:
    for column, floor in ((MANY, 0.7), (FEW, 0.5)):
        assert gains(context.default, context.frozen, column).mean() >= floor, column


def test_the_gain_is_the_memory(context: Context) -> None:
    random = context.under(random_memory)[DEFAULT]
    for column in (MANY, FEW):
        assert gains(context.default, random, column).mean() >= 0.3, column


@pytest.mark.parametrize("condition", [without_classes, permuted_captions, None], ids=["absent", "permuted", "pooled"])
def test_a_memory_that_knows_nothing_does_no_harm(real: World, context: Context, condition: object) -> None:
    assert real.noise is not None
    met = pooled_with(real.noise) if condition is None else condition
    outcomes = context.under(met)[DEFAULT]  # type: ignore[arg-type]
    for column in (MANY, FEW):
        found = gains(outcomes, context.frozen, column)
        assert found.mean() >= -0.1, column
        assert found.min() >= -0.7, column


@pytest.mark.parametrize(("sigma", "floor"), [(0.0, 0.0), (1.5, 25.0)])
def test_labels_in_other_words_than_the_captions_gain_as_well(real: World, sigma: float, floor: float) -> None:
    """Two other prompt sets for the same names, 0.96 like the captions: they had all counted as missing."""
    worded = Context(Bench(tuple(with_other_words(real, sigma, seed) for seed in range(SEEDS))), Bootstrap(resamples=0))
    assert len(worded.frozen) == 2
    for column in worded.frozen:
        assert gains(worded.default, worded.frozen, column).mean() >= floor, column
        for condition in (without_classes, permuted_captions):
            assert (gains(worded.under(condition)[DEFAULT], worded.frozen, column) == 0).all(), column


@pytest.mark.parametrize(("sigma", "floor"), [(0.5, 3.5), (1.0, 12.0)])
def test_weak_names_gain_much_and_only_by_the_papers_arrangement(real: World, sigma: float, floor: float) -> None:
    weak = Context(Bench((with_weak_names(real, sigma, 0),)), Bootstrap(resamples=0))
    found = {PAPER: weak.default}
    if sigma == 1.0:
        others = (one for one in ARRANGEMENTS if one != PAPER)
        found |= {one: weak.of(weak.bench.fitted(arrangement=one), one)[DEFAULT] for one in others}
    for column in (MANY, FEW):
        by_arrangement = {one: gains(outcomes, weak.frozen, column).mean() for one, outcomes in found.items()}
        assert by_arrangement[PAPER] >= floor, column
        assert by_arrangement[PAPER] == max(by_arrangement.values()), column
