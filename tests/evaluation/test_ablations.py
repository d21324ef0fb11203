"""Ablations on a small synthetic world: every row against a slow twin, the few-shot loader, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from demo.ablations import demo_world, species_numbers
from demo.measure import COLUMNS
from demo.species import GROUPS, species_of
from evaluation.ablations.arranged_pairs import ArrangedPairs
from evaluation.ablations.arrangement import ARRANGEMENTS, PAPER, Arrangement, RandomNeighbours, RememberedSearch
from evaluation.ablations.bench import Bench, K, ask, best, fit, shown_entities
from evaluation.ablations.conditions import (
    before,
    permuted_captions,
    pooled_with,
    share,
    whole,
    without_classes,
    without_copies,
)
from evaluation.ablations.context import DEFAULT
from evaluation.ablations.fewshot import load_fewshot
from evaluation.ablations.figures import net_row, row_of
from evaluation.ablations.methods import as_label_set, both_ways, frozen, stand_alone
from evaluation.ablations.other_words import with_other_words
from evaluation.ablations.references import (
    MEAN_GRID,
    TIP_GRID,
    fixed_weights,
    mean_fusion,
    score_mixing,
    tip_adapter,
)
from evaluation.ablations.run import AblationConfig, ablate
from evaluation.ablations.trained import Plan, train_and_measure
from evaluation.ablations.weak_names import with_weak_names
from evaluation.ablations.world import Items, Part, Wording, World
from evaluation.array_memory import ArrayMemory
from evaluation.bootstrap import Bootstrap
from evaluation.controls import MeanFusion
from evaluation.errors import EvaluationError
from evaluation.zero_shot import ZeroShotTask, refined_task
from models.fusion import Fusion
from models.training.dataset.entities import by_names
from models.training.dataset.entity_pairs import ask as ask_pairs
from models.training.recipes import fusion_config
from reco.cli import app

D, CLASSES, UNSEEN, PER_CLASS = 32, 36, 12, 7
NO_INTERVALS = Bootstrap(resamples=0)
Save = Callable[..., Path]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def few_shot_arrays() -> dict[str, np.ndarray]:
    """Names that say little, looks that are told apart: a memory helps."""
    dice = np.random.default_rng(5)
    looks = dice.standard_normal((CLASSES, D))
    label = np.tile(np.arange(CLASSES), PER_CLASS)
    image = unit(looks[label] + 1.0 * dice.standard_normal((len(label), D)) + np.eye(D)[0] * 3)
    text = unit(0.5 * looks + dice.standard_normal((CLASSES, D)) - np.eye(D)[0] * 3)
    order = np.random.default_rng(6).permutation(CLASSES)
    return {
        "image": image.astype(np.float16),
        "label": label.astype(np.int32),
        "shot_set": np.repeat([1, 2, 2, 4, 4, 4, 4], CLASSES).astype(np.int8),
        "text": text.astype(np.float16),
        "class_name": np.array([f"thing {number}" for number in range(CLASSES)]),
        "train_class": order[UNSEEN:].astype(np.int32),
        "unseen_class": order[:UNSEEN].astype(np.int32),
    }


def write_pool(folder: Path) -> None:
    dice = np.random.default_rng(7)
    np.savez(folder / "image_pool.npz", image=unit(dice.standard_normal((40, D))).astype(np.float16))
    names = np.array([f"name {number}" for number in range(15)])
    np.savez(folder / "class_name_texts.npz", text=unit(dice.standard_normal((15, D))).astype(np.float16), name=names)


def write_wordings(folder: Path) -> np.ndarray:
    """The same names from elsewhere: "other" moves all texts alike and each a little, "same" has the very texts."""
    arrays, dice = few_shot_arrays(), np.random.default_rng(8)
    text = arrays["text"].astype(np.float32)
    other = unit(text + 0.3 * unit(dice.standard_normal((1, D))) + 0.1 * unit(dice.standard_normal((CLASSES, D))))
    names = [f" Thing_{number}" for number in range(CLASSES)][::-1]
    np.savez(
        folder / "class_name_texts.npz",
        text=np.concatenate([other[::-1], text, other[:3]]).astype(np.float16),
        name=np.array([*names, *arrays["class_name"], "thing 1", "no such thing", "thing 3"]),
        source=np.array(["other"] * CLASSES + ["same"] * CLASSES + ["few"] * 3),
    )
    return other


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few-shot file with a pool beside it."""
    folder = tmp_path_factory.mktemp("few")
    np.savez(folder / "few.npz", **few_shot_arrays())
    write_pool(folder)
    return folder / "few.npz"


@pytest.fixture(scope="module")
def few(path: Path) -> World:
    return load_fewshot(path)


@pytest.fixture(scope="module")
def fusion(few: World) -> Fusion:
    return fit(few.training, 0)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write few.npz with changes; None leaves an array out."""

    def write(**changes: Any) -> Path:
        arrays = {**few_shot_arrays(), **changes}
        np.savez(tmp_path / "few.npz", **{name: array for name, array in arrays.items() if array is not None})
        return tmp_path / "few.npz"

    return write


# The loader: what is fitted on, asked and remembered.


def test_a_few_shot_world_is_split_by_draw_and_by_class(few: World) -> None:
    arrays = few_shot_arrays()
    train, unseen = set(arrays["train_class"].tolist()), set(arrays["unseen_class"].tolist())
    assert set(few.training.entity.tolist()) == train
    assert len(few.training) == len(train) * PER_CLASS
    assert few.columns == ("36-way", "12-way")
    assert [len(part.items) for part in few.parts] == [3 * CLASSES, 4 * CLASSES]
    assert [len(part.questions["36-way"].images) for part in few.parts] == [4 * UNSEEN, 3 * UNSEEN]
    for part in few.parts:
        assert set(part.items.entity[part.later].tolist()) == unseen
        for column, classes in (("36-way", range(CLASSES)), ("12-way", sorted(unseen))):
            question = part.questions[column]
            assert question.entity.tolist() == list(classes)
            assert set(question.asked.tolist()) == unseen
            np.testing.assert_array_equal(
                question.class_texts, unit(arrays["text"].astype(np.float32))[question.entity]
            )
    memory, queries = few.parts[0].items.image, few.parts[0].questions["12-way"].images
    assert (queries @ memory.T).max() < 0.999  # no image is asked that lies in the memory


def test_validation_knows_no_unseen_class_and_fitting_for_it_no_validation_class(few: World) -> None:
    unseen = few_shot_arrays()["unseen_class"]
    for part in few.validation:
        assert not np.isin(part.items.entity, unseen).any()
        assert [len(question.entity) for question in part.questions.values()] == [24, 8]
        for question in part.questions.values():
            assert not np.isin(question.entity, unseen).any()
            assert not np.isin(few.choosing.entity, question.asked).any()
            assert len(question.asked) == 8


def test_a_pool_beside_the_file_becomes_noise(few: World, path: Path, save: Save) -> None:
    assert few.noise is not None
    assert len(few.noise) == 40
    assert (few.noise.entity == -1).all()
    names = unit(np.load(path.parent / "class_name_texts.npz")["text"].astype(np.float32))
    nearest = names[(few.noise.image[::2] @ names.T).argmax(axis=1)]
    np.testing.assert_array_equal(few.noise.text[::2], nearest)
    assert load_fewshot(save()).noise is None  # no pool beside it


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shot_set": None}, "has no shot_set"),
        ({"label": np.zeros(3, dtype=int)}, "one number an image"),
        ({"text": np.eye(5, dtype=np.float32)}, "(N, D) and"),
        ({"class_name": np.array(["a"])}, "one name a text"),
        ({"train_class": np.array([0, 99])}, "not class numbers"),
        ({"unseen_class": np.array([0.5, 1.0])}, "not class numbers"),
        ({"train_class": np.arange(CLASSES)}, "both train_class and unseen_class"),
        ({"shot_set": np.ones(CLASSES * PER_CLASS, dtype=int)}, "draws 1 and 2"),
        ({"image": np.full((CLASSES * PER_CLASS, D), np.nan)}, "unit norm"),
        ({"text": np.ones((CLASSES, D))}, "unit norm"),
        ({"image": np.array([{}] * 3, dtype=object)}, "pickles are never loaded"),
        ({"text": np.float32(1)}, "(N, D) and"),
        ({"class_name": np.array("a")}, "one name a text"),
        ({"train_class": np.arange(UNSEEN, CLASSES).reshape(2, -1)}, "not class numbers"),
        ({"train_class": np.tile(few_shot_arrays()["train_class"], 2)}, "train_class names a class twice"),
        ({"unseen_class": np.tile(few_shot_arrays()["unseen_class"], 2)}, "unseen_class names a class twice"),
        ({"image": few_shot_arrays()["image"].astype(str)}, "of a float type"),
        ({"train_class": np.arange(0), "unseen_class": np.arange(0)}, "the least to split"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(save: Save, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        load_fewshot(save(**changes))
    assert refused.value.code == "world_invalid"
    assert words in refused.value.message


def test_classes_that_one_side_of_the_swap_never_shows_are_refused(save: Save) -> None:
    """Nothing would be asked there, which was noticed minutes later."""
    arrays = few_shot_arrays()
    shown = ~np.isin(arrays["label"], arrays["unseen_class"]) | (arrays["shot_set"] > 2)
    with pytest.raises(EvaluationError, match="no image in the draws of one side"):
        load_fewshot(save(**{name: arrays[name][shown] for name in ("image", "label", "shot_set")}))


def test_a_pool_from_another_encoder_is_refused(save: Save) -> None:
    file = save()
    write_pool(file.parent)
    np.savez(file.parent / "image_pool.npz", image=np.eye(D + 1, dtype=np.float32))
    with pytest.raises(EvaluationError, match="image_pool"):
        load_fewshot(file)


def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="world_invalid"):
        load_fewshot(tmp_path / "absent.npz")
    with pytest.raises(EvaluationError, match="world_unfinished"):
        demo_world(tmp_path)


def test_the_demos_columns_number_their_species_as_the_quiz_joins_them() -> None:
    names = [species.name for species in species_of(*GROUPS)]
    numbers = dict(zip(by_names(names, names).tolist(), names, strict=True))
    assert len(numbers) == len(names)
    for groups in COLUMNS.values():
        expected = [species.name for group in groups for species in species_of(group)]
        assert [numbers[number] for number in species_numbers(*groups).tolist()] == expected


# Search × fusion.


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=lambda one: one.name)
def test_an_arrangement_searches_and_fuses_what_it_says(few: World, arrangement: Arrangement) -> None:
    items = few.parts[0].items
    memory = RememberedSearch(ArrayMemory(items.image, items.text), arrangement)
    rows = {"image": items.image, "text": items.text}
    for modality, other, queries in (
        ("image", "text", few.parts[0].questions["12-way"].images),
        ("text", "image", few.parts[0].questions["12-way"].class_texts),
    ):
        keys = rows[modality if arrangement.search == "uni" else other]
        values = rows[modality if arrangement.fuse == "uni" else other]
        for k in (5, 3, 30):  # the second is remembered, the third is not
            found = memory.search(queries, k, modality=modality)
            scores = queries.astype(np.float64) @ keys.T.astype(np.float64)
            expected = np.sort(scores, axis=1)[:, ::-1][:, :k]
            np.testing.assert_allclose(found.similarities, expected, atol=1e-5)
            np.testing.assert_allclose(found.values, values[found.ids], atol=1e-6)
            np.testing.assert_allclose(np.take_along_axis(scores, found.ids, axis=1), expected, atol=1e-5)


def test_every_arrangement_is_fitted_by_the_same_procedure(few: World) -> None:
    pairs = few.training.pairs(shown_entities(few.training, 0))
    as_ever = ArrangedPairs.of(pairs, PAPER)
    for modality in ("image", "text"):
        one, other = (ask_pairs(each, modality, 5) for each in (pairs, as_ever))
        for left, right in zip(vars(one).values(), vars(other).values(), strict=True):
            assert torch.equal(left, right)
    crossed = ask_pairs(ArrangedPairs.of(pairs, Arrangement("cross", "uni")), "text", 5)
    scores = pairs.names @ pairs.image.T  # searched among the images, but for the asking half of each class
    own = (pairs.entity.unsqueeze(0) == torch.arange(pairs.num_entities).unsqueeze(1)) & pairs.asks
    expected = scores.masked_fill(own, -torch.inf).topk(5, dim=1)
    assert torch.equal(crossed.rows, expected.indices)
    assert torch.equal(crossed.values, pairs.text[expected.indices])
    for arrangement in ARRANGEMENTS:
        fitted = fit(few.training, 0, K, arrangement)
        assert all(parameter.isfinite().all() for parameter in fitted.state_dict().values())


def test_random_neighbours_differ_and_come_in_order(few: World) -> None:
    items = few.parts[0].items
    queries = few.parts[0].questions["12-way"].images
    memory = RandomNeighbours(ArrayMemory(items.image, items.text), 3)
    found = memory.search(queries, 5, modality="image")
    again = memory.search(queries, 5, modality="image")
    np.testing.assert_array_equal(found.ids, again.ids)
    assert all(len(set(row)) == 5 for row in found.ids.tolist())
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    np.testing.assert_allclose(found.similarities, np.einsum("bd,bkd->bk", queries, items.image[found.ids]), atol=1e-6)
    np.testing.assert_allclose(found.values, items.text[found.ids], atol=1e-6)
    few_items = RandomNeighbours(ArrayMemory(items.image[:3], items.text[:3]), 3)
    assert few_items.search(queries, 5, modality="text").ids.shape == (len(queries), 3)


# The rows, each against a slow twin.


def test_frozen_and_refined_are_what_the_evaluation_says(few: World, fusion: Fusion) -> None:
    part = few.parts[0]
    question = part.questions["12-way"]
    task = ZeroShotTask(question.images, question.labels, question.class_texts)
    refined = refined_task(task, ArrayMemory(part.items.image, part.items.text), fusion)
    found = as_label_set(fusion)(part.items, question)
    both = both_ways(fusion)(part.items, question)
    for mode, one in refined.items():
        expected = (one.images @ one.class_texts.T).argmax(axis=1)
        np.testing.assert_array_equal(found[mode], expected)
        np.testing.assert_array_equal(both["label set", mode], expected)
    np.testing.assert_array_equal(found["none"], frozen(part.items, question)[""])
    alone = stand_alone(fusion)(part.items, question)
    np.testing.assert_array_equal(both["stand-alone", "both"], alone["both"])


def test_mean_fusion_is_the_control(few: World, fusion: Fusion) -> None:
    part = few.parts[1]
    question = part.questions["36-way"]
    found = mean_fusion(MEAN_GRID)(part.items, question)
    assert len(found) == len(MEAN_GRID)
    control = Fusion(fusion_config("evidence", D, K))
    for image, text in ((0.0, 0.0), (0.25, 0.6), (1.0, 1.0)):
        control.image, control.text = MeanFusion(image), MeanFusion(text)  # type: ignore[assignment]
        task = ZeroShotTask(question.images, question.labels, question.class_texts)
        one = refined_task(task, part.items.memory(), control)["both"]
        expected = (one.images @ one.class_texts.T).argmax(axis=1)
        assert (found[image, text] == expected).mean() > 0.98  # but for ties and rounding


def test_score_mixing_by_hand(few: World) -> None:
    part = few.parts[0]
    question = part.questions["12-way"]
    found = score_mixing([1.0, 0.3])(part.items, question)
    np.testing.assert_array_equal(found[1.0], frozen(part.items, question)[""])
    for number, image in enumerate(question.images):
        nearest = np.argsort(-(part.items.image @ image))[:K]
        mean = part.items.text[nearest].mean(axis=0)
        scores = 0.3 * question.class_texts @ image + 0.7 * question.class_texts @ (mean / np.linalg.norm(mean))
        assert found[0.3][number] == scores.argmax()


def test_tip_adapter_by_hand(few: World) -> None:
    part = few.parts[0]
    question = part.questions["12-way"]
    points = [(0.0, 5.5, 0), (3.0, 5.5, 0), (30.0, 20.0, 4)]
    assert set(TIP_GRID) >= {(3.0, 5.5, 0)}
    found = tip_adapter(points)(part.items, question)
    np.testing.assert_array_equal(found[points[0]], frozen(part.items, question)[""])
    for alpha, beta, voters in points[1:]:
        for number, image in enumerate(question.images):
            similarity = part.items.image @ image
            scores = 100 * question.class_texts @ image
            nearest = np.argsort(-similarity)[: voters or len(similarity)]
            for row in nearest:
                for place in np.flatnonzero(question.entity == part.items.entity[row]):
                    scores[place] += alpha * np.exp(-beta * (1 - similarity[row]))
            assert found[alpha, beta, voters][number] == scores.argmax()


def test_fixed_weights_reach_from_clip_to_the_label_set(few: World, fusion: Fusion) -> None:
    part = few.parts[0]
    question = part.questions["36-way"]
    found = fixed_weights(fusion, [(0.0, 0.0), (0.1, 0.4)])(part.items, question)
    np.testing.assert_array_equal(found[0.0, 0.0], frozen(part.items, question)[""])
    sides = []
    for modality, queries, weight in (("image", question.images, 0.1), ("text", question.class_texts, 0.4)):
        answer = ArrayMemory(part.items.image, part.items.text).search(queries, K, modality=modality)
        parts = map(torch.from_numpy, (queries, answer.values, answer.similarities, answer.mask))
        sides.append(fusion.side(modality)(*parts, torch.tensor(weight)))
    expected = (sides[0] @ sides[1].T).argmax(dim=1).numpy()
    np.testing.assert_array_equal(found[0.1, 0.4], expected)


def test_training_chooses_on_validation_and_trains_every_seed(few: World) -> None:
    told: list[tuple[int, int]] = []
    plan = Plan("mlp", "mlp", ((1e-5, 100.0), (1e-2, 20.0)), 1)
    found = train_and_measure(Bench.of(few, 2), plan, lambda done, total: told.append((done, total)))
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert len(found.tried) == 2 * 4
    chosen = f"rate {found.rate:g}, scale {found.scale:.3g}, {found.scoring}"
    assert found.tried[chosen] == max(found.tried.values())
    assert found.outcomes["36-way"].shape == (2, 7 * UNSEEN)


# Memories.


def test_conditions(few: World) -> None:
    part = few.parts[0]
    question = part.questions["12-way"]
    assert whole(part, question, 0) is part.items
    unseen = few_shot_arrays()["unseen_class"]
    for condition in (before, without_classes):
        left = condition(part, question, 0)
        assert len(left) == 3 * (CLASSES - UNSEEN)
        assert not np.isin(left.entity, unseen).any()
    assert len(without_copies(part, question, 0)) == len(part.items)
    leaked = replace(question, images=np.concatenate([question.images, part.items.image[[4, 9]]]))
    clean = without_copies(part, leaked, 0)
    np.testing.assert_array_equal(clean.image, np.delete(part.items.image, [4, 9], axis=0))
    permuted = permuted_captions(part, question, 1)
    np.testing.assert_array_equal(permuted.text, part.items.text)
    assert not np.array_equal(permuted.image, part.items.image)
    np.testing.assert_allclose(permuted.image.sum(axis=0), part.items.image.sum(axis=0), atol=1e-4)
    small, large = share(0.25)(part, question, 4), share(0.5)(part, question, 4)
    assert (len(small), len(large)) == (27, 54)
    assert {row.tobytes() for row in small.image} <= {row.tobytes() for row in large.image}
    assert share(1.0)(part, question, 4) is part.items
    assert few.noise is not None
    pool = pooled_with(few.noise)
    assert len(pool(part, question, 0)) == len(part.items) + 40
    assert pool(part, question, 0) is pool(part, question, 1)  # searched once


def test_weak_names_move_a_name_and_its_captions_alike(few: World) -> None:
    weak = with_weak_names(few, 1.0, seed=3)
    question, plain = weak.parts[0].questions["36-way"], few.parts[0].questions["36-way"]
    for items in (weak.training, weak.choosing, weak.parts[0].items, weak.validation[1].items):
        np.testing.assert_allclose(items.text, question.class_texts[items.entity], atol=1e-6)
    np.testing.assert_array_equal(weak.parts[0].items.image, few.parts[0].items.image)
    np.testing.assert_array_equal(question.images, plain.images)
    short = weak.parts[1].questions["12-way"]
    np.testing.assert_allclose(short.class_texts, question.class_texts[short.entity], atol=1e-6)
    spread = np.linalg.norm(plain.class_texts - plain.class_texts.mean(axis=0), axis=1).mean()
    expected = 1 / np.sqrt(1 + spread**2)  # of a unit vector and as long a perpendicular one
    assert (question.class_texts * plain.class_texts).sum(axis=1).mean() == pytest.approx(expected, abs=0.06)
    still = with_weak_names(few, 0.0, seed=3).parts[0].questions["36-way"]
    np.testing.assert_allclose(still.class_texts, plain.class_texts, atol=1e-6)
    other = with_weak_names(few, 1.0, seed=4).parts[0].questions["36-way"]
    assert not np.allclose(other.class_texts, question.class_texts)


def test_other_words_are_the_same_names_from_elsewhere(save: Save, few: World) -> None:
    """By name, whatever its case and underscores; a source with the same texts is no other wording, nor one of few."""
    assert few.wordings == {}
    file = save()
    other = write_wordings(file.parent)
    world = load_fewshot(file)
    assert set(world.wordings) == {"other"}
    np.testing.assert_array_equal(world.wordings["other"].entity, np.arange(CLASSES))
    np.testing.assert_allclose(world.wordings["other"].text, other, atol=1e-3)
    worded = with_other_words(world, 0.0, seed=0)
    assert worded.columns == (f"{UNSEEN} labels of other",)
    for part, plain in zip(worded.parts, world.parts, strict=True):
        [question], whole = part.questions.values(), plain.questions["12-way"]
        np.testing.assert_array_equal(question.entity, whole.entity)
        np.testing.assert_array_equal(question.labels, whole.labels)
        np.testing.assert_array_equal(question.images, whole.images)
        np.testing.assert_allclose(question.class_texts, other[whole.entity], atol=1e-3)
        np.testing.assert_allclose(part.items.text, plain.items.text, atol=1e-6)  # captions keep their words
    weak = with_other_words(world, 1.0, seed=3).parts[0]
    moved = with_weak_names(world, 1.0, seed=3).parts[0].questions["12-way"].class_texts
    [question] = weak.questions.values()
    closeness = (question.class_texts @ moved.T).argmax(axis=1)
    np.testing.assert_array_equal(closeness, np.arange(UNSEEN))  # moved as the captions of the same names are


def test_wordings_that_do_not_fit_are_refused_and_those_of_few_or_without_a_source_are_none(save: Save) -> None:
    file = save()
    write_wordings(file.parent)
    arrays = dict(np.load(file.parent / "class_name_texts.npz"))
    for changes in ({"source": arrays["source"][:5]}, {"text": np.eye(D + 1, dtype=np.float32)[:1].repeat(75, 0)}):
        np.savez(file.parent / "class_name_texts.npz", **{**arrays, **changes})
        with pytest.raises(EvaluationError, match="not as many"):
            load_fewshot(file)
    training = np.isin(arrays["name"], [f" Thing_{number}" for number in few_shot_arrays()["train_class"]])
    np.savez(file.parent / "class_name_texts.npz", **{name: rows[training] for name, rows in arrays.items()})
    assert load_fewshot(file).wordings == {}
    np.savez(file.parent / "class_name_texts.npz", text=arrays["text"])
    assert load_fewshot(file).wordings == {}


# Seeds, figures, the whole.


def test_each_seed_is_fitted_on_its_own_nine_tenths(few: World) -> None:
    drawn = [set(shown_entities(few.training, seed).tolist()) for seed in range(3)]
    assert all(len(one) == round(0.9 * (CLASSES - UNSEEN)) for one in drawn)
    assert drawn[0] != drawn[1]
    assert shown_entities(few.training, 0).tolist() == sorted(drawn[0])


def test_parts_are_pooled_and_gains_are_paired() -> None:
    dice = np.random.default_rng(0)
    ours, theirs = dice.random((3, 200)) < 0.6, np.repeat(dice.random((1, 200)) < 0.5, 3, axis=0)
    row = row_of("x", {"all": ours}, {"all": theirs}, Bootstrap(resamples=500))
    cell = row.cells["all"]
    assert cell.accuracies == pytest.approx(tuple(ours.mean(axis=1) * 100))
    assert cell.gains == pytest.approx(tuple((ours.mean(axis=1) - theirs.mean(axis=1)) * 100))
    assert cell.interval is not None
    slow = []
    for _ in range(500):
        queries, seeds = dice.integers(0, 200, 200), dice.integers(0, 3, 3)
        slow.append((ours[seeds][:, queries].mean() - theirs[seeds][:, queries].mean()) * 100)
    np.testing.assert_allclose(cell.interval, np.quantile(slow, [0.025, 0.975]), atol=1.5)
    net = net_row("y", {"all": ours}, {"all": theirs}, NO_INTERVALS).cells["all"]
    assert net.accuracies == ()
    assert net.gains == cell.gains
    assert net.interval is None
    assert "accuracy" not in net.as_dict()


def test_a_method_is_measured_on_all_parts_one_after_the_other(few: World) -> None:
    asked: list[Part] = []

    def condition(part: Part, question: Any, seed: int) -> Items:
        asked.append(part)
        return part.items

    correct = ask(frozen, few.parts, condition, 0)[""]
    assert len(asked) == len(few.parts)  # questions about the same classes meet the same items
    expected = [
        (question.images @ question.class_texts.T).argmax(axis=1) == question.labels
        for question in (part.questions["36-way"] for part in few.parts)
    ]
    np.testing.assert_array_equal(correct["36-way"], np.concatenate(expected))
    assert best({"a": 1.0, "b": 3.0, "c": 3.0}) == "b"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer things to try: what is chosen is not the point here."""
    monkeypatch.setattr("evaluation.ablations.tables.MLP", Plan("mlp", "same-size MLP, no memory", ((1e-5, 100.0),), 1))
    monkeypatch.setattr("evaluation.ablations.tables.NEIGHBOURS", (2, 10))
    monkeypatch.setattr("evaluation.ablations.tables.SHARES", (0.25, 1.0))
    monkeypatch.setattr("evaluation.ablations.run.SIGMAS", (1.0,))
    monkeypatch.setattr("evaluation.ablations.run.WORDED_SIGMAS", (1.0,))
    monkeypatch.setattr("evaluation.ablations.run.SINGLE_SIGMAS", (1.0,))


@pytest.mark.usefixtures("short")
def test_the_whole_of_it_in_little(few: World) -> None:
    told: list[str] = []
    few = replace(few, wordings={"others": Wording(np.arange(CLASSES), few.parts[0].questions["36-way"].class_texts)})
    found = ablate(few, AblationConfig(2, quick=True, bootstrap=Bootstrap(50)), done=lambda one: told.append(one.key))
    by_key = {table.key: table for table in found.tables}
    assert told == list(by_key)
    assert set(by_key) == {
        "sides", "controls", "arrangements", "neighbours", "memory_size", "update", "harm", "weak_names_1",
        "other_words_1", "single_pairs_1",
    }  # fmt: skip
    default = by_key["sides"].row("label set: both")
    for same in (
        by_key["controls"].row("RECO (label set, both)"),
        by_key["arrangements"].row("uni search, cross fusion: label set"),
        by_key["neighbours"].row("k = 10"),
        by_key["memory_size"].row("1 of the memory"),
        by_key["update"].row("after"),
    ):
        assert same.cells == default.cells
    assert by_key["controls"].row("RECO, copies of the queries left out").cells == default.cells  # it holds none
    assert by_key["update"].row("before: without what was added later").cells == (
        by_key["harm"].row("without the queried classes: label set").cells
    )
    worded = by_key["other_words_1"]
    assert (
        worded.row("RECO (label set, both)").cells["12 labels of others"]
        == (by_key["weak_names_1"].row("RECO (label set, both)").cells["12-way"])
    )
    assert worded.row("RECO, permuted captions").cells["12 labels of others"].gain == 0
    assert default.cells["12-way"].gain > 10  # looks are told apart here, and names say little
    value = json.loads(json.dumps(found.as_dict()))
    assert value["settings"]["seeds"] == 2
    assert set(value["chosen_on_validation"]) >= {"mean fusion", "score mixing", "Tip-Adapter / k-NN"}
    assert any("--quick" in reason for reason in value["skipped"])
    assert DEFAULT == ("label set", "both")


# The command.


@pytest.mark.usefixtures("short")
def test_the_command_prints_tables_and_writes_files(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.ablations.tables.ARRANGEMENTS", ARRANGEMENTS[:2])  # all of them: in the test above
    arguments = ["eval", "--ablations", path, "-o", tmp_path / "out", "--seeds", "1", "--quick", "--bootstrap", "100"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value == json.loads((tmp_path / "out" / "results.json").read_text())
    assert value["world"]["name"] == "few"
    names = {one.name for one in (tmp_path / "out").iterdir()}
    for plot in ("sides", "controls", "arrangements", "harm", "memory-size", "neighbours", "weak-names-1"):
        assert {f"ablations-{plot}.png", f"ablations-{plot}.svg"} <= names
    for words in ("frozen CLIP", "net of the MLP", "uni search, cross fusion", "Left out"):
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ablations", "absent.npz"], "world_unknown"),
        (["--ablations", "."], "world_unfinished"),
        (["--ablations", ".", "memory"], "leave MEMORY, FUSION and TASK out"),
        (["memory"], "missing argument"),
        ([], "missing argument"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["eval", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


# What is written about it.

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["ablations-clip-vitb32.json", "ablations-demo.json"])
def test_the_documents_tables_are_the_measured_ones(name: str) -> None:
    """Every line of every table, as measured."""
    written = set((ROOT / "docs" / "ablations.md").read_text(encoding="utf-8").splitlines())
    measured = json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))
    for table in measured["tables"].values():
        for row in table["rows"]:
            cells = [cell_text(cell) for column, cell in row.items() if column != "row"]
            line = f"| {' | '.join([row['row'], *cells])} |"
            assert line in written, line


def cell_text(cell: dict[str, Any]) -> str:
    """As the documents write a cell."""
    words = [f"{cell['accuracy']:.1f}"] if "accuracy" in cell else []
    if "gain" in cell:
        low, high = cell["interval"]
        words += [f"{cell['gain']:+.2f} [{low:+.1f}, {high:+.1f}]"]
    return " ".join(words)
