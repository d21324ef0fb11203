"""Accuracy, ranks, entities: matrices that can be checked by eye, and slow obvious twins."""

from typing import Any

import numpy as np
import pytest
import torch

from evaluation import refinement
from evaluation.array_memory import ArrayMemory
from evaluation.bootstrap import Bootstrap
from evaluation.entities import entity_measures, harmonic_mean
from evaluation.figures import share
from evaluation.label_sets import label_set_sides_at
from evaluation.refinement import SCORINGS, Sides, refined_sides, refined_sides_at
from evaluation.retrieval import RetrievalTask, best_ranks, ranks
from evaluation.ties import first_best
from evaluation.zero_shot import ZeroShotTask, accuracy, per_class_accuracy, predictions, refined_task
from memory import Memory
from models.checkpoint import load_fusion
from models.fusion import Fusion, FusionConfig

HAND = np.array(
    [
        [0.9, 0.1, 0.2, 0.3],  # right answer 0: rank 1
        [0.5, 0.4, 0.6, 0.1],  # right answer 1: rank 3
        [0.2, 0.2, 0.2, 0.2],  # right answer 2, tied with all: rank 4, a tie earns nothing
        [0.1, 0.7, 0.3, 0.3],  # right answers 2 and 3, tied with each other only: rank 2
    ],
    dtype=np.float32,
)
RIGHT = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)


def test_ranks_by_eye() -> None:
    np.testing.assert_array_equal(best_ranks(HAND, RIGHT), [1, 3, 4, 2])


def test_of_equal_classes_the_first_is_the_answer_of_table_and_gallery_alike() -> None:
    images = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    texts = np.eye(3, dtype=np.float32)[[2, 0, 2, 1]]  # 0 and 2 are equal
    task = ZeroShotTask(images, np.array([1, 3, 0, 2]), texts)
    found = ranks(task, Sides(images, texts, images, texts), "image")["none"]
    np.testing.assert_array_equal(found, [1, 1, 1, 2])
    np.testing.assert_array_equal(found == 1, predictions(Sides(images, texts, images, texts))["none"] == task.labels)


def slow_rank(scores: np.ndarray, relevant: np.ndarray) -> int:
    """Sort with the wrong answers first among equals, and look for the first right one."""
    order = sorted(range(len(scores)), key=lambda one: (-scores[one], relevant[one]))
    return 1 + next(place for place, one in enumerate(order) if relevant[one])


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("block", [1, 40, 1 << 24])
def test_ranks_of_both_directions_equal_the_slow_twin(
    modality: Any, block: int, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "_BLOCK_ELEMENTS", block)
    image, text = factory.unit_rows(9, 16, 1), factory.unit_rows(14, 16, 2)
    image[4] = image[3]  # a tie
    sides = Sides(image, text, factory.unit_rows(9, 16, 3), factory.unit_rows(14, 16, 4))
    pair = np.random.default_rng(5).integers(0, 8, 14)  # image 8 has no text, others several
    task = RetrievalTask(image, text, pair)
    found = ranks(task, sides, modality)
    four = {}
    for mode in ("none", "image", "text", "both"):
        v, t = sides.of(mode)
        four[mode] = np.round((v.astype(np.float64) @ t.T.astype(np.float64)), 9)
    four["ensemble"] = sum(four.values())
    for scoring in SCORINGS:
        scores = four[scoring] if modality == "image" else four[scoring].T
        expected = []
        for query in task.queries(modality):
            right = pair == query if modality == "image" else np.arange(9) == pair[query]
            expected.append(slow_rank(scores[query], right))
        np.testing.assert_array_equal(found[scoring], expected)
    assert (8 in task.queries("image")) is False


def test_top_1_equals_numpy_and_the_ensemble_is_the_sum_of_four(factory: Any) -> None:
    parts = [factory.unit_rows(n, 16, seed) for seed, n in enumerate((30, 5, 30, 5))]
    sides = Sides(parts[0], parts[1], parts[2], parts[3])
    labels = np.random.default_rng(1).integers(0, 5, 30)
    found = predictions(sides)
    total = np.zeros((30, 5))
    for mode in ("none", "image", "text", "both"):
        v, t = sides.of(mode)
        total += v @ t.T
        np.testing.assert_array_equal(found[mode], (v @ t.T).argmax(axis=1))
        assert accuracy(ZeroShotTask(v, labels, t)) == pytest.approx((found[mode] == labels).mean() * 100)
    np.testing.assert_array_equal(found["ensemble"], total.argmax(axis=1))


def test_of_equal_classes_the_first_answers_however_many_images_are_asked_at_once(factory: Any) -> None:
    """Products of other shapes round otherwise: without a tolerance a copy of a class wins here and there."""
    image, refined = factory.unit_rows(300, 512, 1), factory.unit_rows(300, 512, 2)
    text, moved = (
        np.concatenate([rows, rows]) for rows in (factory.unit_rows(10, 512, 3), factory.unit_rows(10, 512, 4))
    )
    for step in (1, 7, 300):
        parts = [
            Sides(image[start : start + step], text, refined[start : start + step], moved)
            for start in range(0, 300, step)
        ]
        for scoring in SCORINGS:
            found = np.concatenate([predictions(part)[scoring] for part in parts])
            assert (found < 10).all(), (step, scoring)
    assert accuracy(ZeroShotTask(image, found, text)) == accuracy(ZeroShotTask(image, found, text[:10]))


def test_a_tolerance_grows_with_the_scores() -> None:
    scores = np.array([[0.3, 0.3 + 5e-7, 0.1], [0.3, 0.3 + 5e-6, 0.1], [40.0, 40.00003, 1.0]], dtype=np.float32)
    np.testing.assert_array_equal(first_best(scores), [0, 1, 0])


def test_per_class_accuracy_by_eye() -> None:
    by_class = per_class_accuracy(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 2, 2]), 4)
    np.testing.assert_array_equal(by_class, [50, np.nan, 100, np.nan])


def test_refining_equals_one_query_at_a_time(world: Any, factory: Any) -> None:
    memory = Memory.open(world.memory)
    fusion = load_fusion(world.fusions[0])
    image, text = factory.unit_rows(7, 64, 1), factory.unit_rows(5, 64, 2)
    by_k = refined_sides_at(image, text, memory, fusion, [1, 4])
    for k, sides in zip((1, 4), by_k, strict=True):
        for row in range(7):
            found = memory.search(image[row : row + 1], k, modality="image")
            parts = (image[row : row + 1], found.values, found.similarities, found.mask, found.keys)
            with torch.inference_mode():
                alone = fusion.refine("image", *map(torch.from_numpy, parts)).numpy()
            np.testing.assert_allclose(sides.refined_image[row], alone[0], atol=1e-6)
    whole = refined_sides(image, text, memory, fusion)
    np.testing.assert_array_equal(whole.refined_text, by_k[1].refined_text)
    modes = refined_task(ZeroShotTask(image, np.zeros(7, dtype=np.int64), text), memory, fusion)
    np.testing.assert_array_equal(modes["both"].images, whole.refined_image)
    np.testing.assert_array_equal(modes["image"].class_texts, text)


def test_labels_without_a_weight_leave_both_sides_as_they_are_to_the_bit(factory: Any) -> None:
    fusion = Fusion(FusionConfig("evidence", 64, k=4)).eval()
    fusion.text.found.bias.data.fill_(-50)  # nothing is held, so the weight is 0
    image, text = factory.unit_rows(90, 64, 1), factory.unit_rows(12, 64, 2)
    memory = ArrayMemory(factory.unit_rows(60, 64, 3), factory.unit_rows(60, 64, 4))
    for sides in label_set_sides_at(image, text, memory, fusion, [1, 4]):
        np.testing.assert_array_equal(sides.refined_image, image)
        np.testing.assert_array_equal(sides.refined_text, text)


def outcomes(seed: int, seeds: int = 3, n: int = 200) -> dict[Any, np.ndarray]:
    dice = np.random.default_rng(seed)
    frozen = np.repeat(dice.random((1, n)) < 0.5, seeds, axis=0)
    found = {one: (dice.random((seeds, n)) < 0.7).astype(float) for one in SCORINGS}
    return {**found, "none": frozen.astype(float)}


def test_a_gain_is_the_difference_of_means_and_lies_in_its_interval() -> None:
    data = outcomes(1)
    figures = share(data, Bootstrap(500))
    for scoring in SCORINGS[1:]:
        figure = figures[scoring]
        assert figure.seeds == pytest.approx(data[scoring].mean(axis=1) * 100)
        assert figure.gain == pytest.approx((data[scoring].mean() - data["none"].mean()) * 100)
        assert figure.interval is not None
        assert figure.interval[0] < figure.gain < figure.interval[1]
        assert figure.spread == pytest.approx(np.ptp(figure.seeds) / 2)
    assert figures["none"].gain is None


def test_harmonic_mean_by_eye() -> None:
    np.testing.assert_allclose(harmonic_mean(np.array([0.5, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])), [2 / 3, 1, 0])


def test_entities_are_measured_apart_and_together() -> None:
    data = outcomes(2)
    unseen = np.arange(200) < 60
    measures = entity_measures(data, ~unseen, unseen, Bootstrap(400), np.arange(200))
    seen_by_seed = data["both"][:, ~unseen].mean(axis=1)
    unseen_by_seed = data["both"][:, unseen].mean(axis=1)
    harmonic = 2 / (1 / seen_by_seed + 1 / unseen_by_seed) * 100
    figure = measures["harmonic mean"]["both"]
    assert figure.seeds == pytest.approx(harmonic)
    assert figure.gain == pytest.approx(harmonic.mean() - measures["harmonic mean"]["none"].mean)
    assert figure.interval is not None
    assert figure.interval[0] < figure.gain < figure.interval[1]
    assert measures["unseen"]["both"].seeds == pytest.approx(unseen_by_seed * 100)


def test_seen_and_unseen_images_are_drawn_apart() -> None:
    """Of two equal parts the harmonic mean varies as much as two draws of their own say."""
    part = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [200, 150, 50, 200], axis=0).astype(float)
    both = np.concatenate([part, part])
    data: dict[Any, np.ndarray] = {one: both[None, :, int(one != "none")] for one in SCORINGS}
    seen = np.arange(len(both)) < len(part)
    alone = np.arange(len(both))
    found = entity_measures(data, seen, ~seen, Bootstrap(8000), alone)["harmonic mean"]["both"].interval
    first, second = (Bootstrap(8000, seed=seed).means(part) for seed in (1, 2))
    gains = (harmonic_mean(first[:, 1], second[:, 1]) - harmonic_mean(first[:, 0], second[:, 0])) * 100
    assert found is not None
    assert np.ptp(found) == pytest.approx(np.ptp(np.quantile(gains, [0.025, 0.975])), rel=0.06)


@pytest.mark.parametrize("labels", [[0, 5], [-1, 0]])
def test_labels_outside_the_classes_are_refused(labels: list[int], factory: Any) -> None:
    with pytest.raises(ValueError, match="label"):
        ZeroShotTask(factory.unit_rows(2, 8, 1), np.array(labels), factory.unit_rows(3, 8, 2))
    with pytest.raises(ValueError, match="image"):
        RetrievalTask(factory.unit_rows(3, 8, 1), factory.unit_rows(2, 8, 2), np.array(labels))
