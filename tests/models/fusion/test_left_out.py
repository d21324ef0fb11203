"""Images of the memory, each left out of all evidence: by hand, and as a forecast of images that nobody has seen."""

import copy
from itertools import product
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import QUADRATIC, EvidenceFusion
from models.fusion.label_set import SHARPNESS, WEIGHTS, best_weight, weigh_label_set
from models.fusion.left_out import COPY, LeftOut
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence

D, CLASSES = 64, 200


def names_and_looks(strength: float, seed: int) -> tuple[Tensor, Tensor]:
    """A name (C, D) and a look (C, D) for each class; a name tells its look as far as `strength` says."""
    dice = torch.Generator().manual_seed(seed)
    looks, opaque = 0.09 * torch.randn(2, CLASSES, D, generator=dice)
    names = strength * looks + (1 - strength) * opaque
    names[:, 0] -= 1
    return F.normalize(names, dim=-1), looks


def images_of(looks: Tensor, each: int, seed: int) -> Tensor:
    """(C, each, D) of unit norm."""
    noise = 0.12 * torch.randn(len(looks), each, D, generator=torch.Generator().manual_seed(seed))
    images = looks.unsqueeze(1) + noise
    images[..., 0] += 1
    return F.normalize(images, dim=-1)


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    names, looks = names_and_looks(1.0, 0)
    images, entity = images_of(looks, 6, 1).flatten(0, 1), torch.arange(CLASSES).repeat_interleave(6)
    return fit_evidence(EntityPairs(images, names[entity], entity), FusionConfig("evidence", D, k=6), alone=False)


@pytest.fixture(scope="module")
def side(fusion: Fusion) -> EvidenceFusion:
    assert isinstance(fusion.text, EvidenceFusion)
    return fusion.text


class Label(NamedTuple):
    """A label's evidence: its mean and that whitened (D,), the noise of the mean, whether it speaks."""

    mean: Tensor
    whitened: Tensor
    noise: Tensor
    speaks: bool


def by_hand(side: EvidenceFusion, values: Tensor, attention: Tensor, image: Tensor) -> Label:
    """A label (K, D), (K,) without an image and its copies; as it is, and silent, where nearly nothing else is left."""
    rest = attention * (values @ image <= COPY)
    speaks = bool(rest.sum() >= 0.05)
    rest = rest / rest.sum() if speaks else attention
    mean = rest @ values - side.centre
    return Label(mean, mean @ side.whitening, noise(values, rest), speaks)


def noise(values: Tensor, attention: Tensor) -> Tensor:
    """Of the mean, in units of the variance of one photo; copies are one."""
    photos = [int((values @ value > COPY).nonzero()[0]) for value in values]
    return torch.zeros_like(attention).index_add_(0, torch.tensor(photos), attention).square().sum()


def test_the_scores_are_those_of_labels_without_the_image_but_for_the_noise(side: EvidenceFusion) -> None:
    names, looks = names_and_looks(0.5, 3)
    names, values = names[:6], images_of(looks[:6], 4, 4)
    values[2, 1] = values[2, 0]  # a copy
    values[4, 0] = values[3, 0]  # of two labels
    attention = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    attention[5] = torch.tensor([0.97, 0.01, 0.01, 0.01])
    images, labels = values.flatten(0, 1), torch.arange(6).repeat_interleave(4)

    left = [[by_hand(side, values[label], attention[label], image) for label in range(6)] for image in images]
    centred = images - side.centre
    turned = centred @ side.whitening
    own = [(unit, left[unit][label]) for unit, label in enumerate(labels.tolist()) if left[unit][label].speaks]
    assert len(own) == 23
    certainty = torch.rand(24, generator=torch.Generator().manual_seed(5))
    trust = certainty[[unit for unit, _ in own]] / certainty[[unit for unit, _ in own]].sum()
    once = trust @ torch.stack([turned[unit] @ (centred[unit] - label.mean) for unit, label in own])
    twice = trust @ torch.stack([turned[unit] @ (turned[unit] - label.whitened) for unit, label in own])
    weight, length, expected = 1.3, side.centre.norm(), torch.empty(24, 6)
    for unit, place in product(range(24), range(6)):
        label, image = left[unit][place], images[unit]
        more = label.noise - noise(values[place], attention[place])
        bias = QUADRATIC * (label.whitened @ label.mean - once * more) / length
        along = label.whitened @ side.axis
        direction = label.whitened - (along + bias) * side.axis
        squared = label.whitened @ label.whitened - twice * more - along**2 + bias**2
        squared = torch.maximum(squared, (names[place] @ direction) ** 2)
        says = image @ direction if label.speaks else -(image @ side.axis) * bias
        norm = (1 + 2 * weight * (names[place] @ direction) + weight**2 * squared).sqrt()
        expected[unit, place] = (image @ names[place] + weight * says) / norm
    found = LeftOut.of(side, names, values, attention, images, labels, certainty).scores(weight)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def fresh_losses(side: EvidenceFusion, names: Tensor, values: Tensor, images: Tensor) -> list[float]:
    """What fresh images (C, n, D) lose under each of `WEIGHTS`, by the same loss."""
    attention = torch.full(values.shape[:2], 1 / values.shape[1])
    direction = side.direction(*side.evidence(values, attention))
    labels = torch.arange(len(names)).repeat_interleave(images.shape[1])
    losses = []
    for weight in WEIGHTS:
        scores = images.flatten(0, 1) @ F.normalize(names + weight * direction, dim=-1).T
        scores = scores / scores.std(dim=1).mean()
        losses.append(min(float(F.cross_entropy(factor * scores, labels)) for factor in SHARPNESS))
    return losses


@pytest.mark.parametrize("strength", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("each", [2, 3, 8])
def test_the_weight_is_nearly_the_best_for_fresh_images(side: EvidenceFusion, each: int, strength: float) -> None:
    """With few images a label, too: of two, one is left to judge by."""
    regrets = []
    for seed in range(20, 23):
        names, looks = names_and_looks(strength, seed)
        values, attention = images_of(looks, each, 2 * seed), torch.full((CLASSES, each), 1 / each)
        chosen = best_weight(side, names, values, attention, torch.ones(CLASSES))
        losses = fresh_losses(side, names, values, images_of(looks, 8, 3 * seed))
        regrets.append(losses[WEIGHTS.index(chosen)] - min(losses))
    assert sum(regrets) / 3 < 0.03


@pytest.mark.parametrize("strength", [0.6, 0.75, 0.9])
def test_of_two_images_those_that_agree_are_not_the_only_witnesses(
    fusion: Fusion, side: EvidenceFusion, strength: float
) -> None:
    """Each would be told by the other, and all memories looked better than they are."""
    names, looks = names_and_looks(strength, 8)
    values, similarities = images_of(looks, 2, 9), torch.ones(CLASSES, 2)
    weights = weigh_label_set(
        fusion, names, values, similarities, torch.ones(CLASSES, 2, dtype=torch.bool), names.unsqueeze(1)
    )
    assert weights is not None and weights.unknown == 0
    losses = fresh_losses(side, names, values, images_of(looks, 8, 10))
    best = losses.index(min(losses))
    assert WEIGHTS[best - 1] * 0.9 <= weights.text <= WEIGHTS[best + 1]


@pytest.mark.parametrize("times", [2, 5])
def test_a_photo_with_several_captions_is_one_photo(side: EvidenceFusion, times: int) -> None:
    for strength, each in ((0.6, 3), (0.75, 4), (0.9, 2)):
        names, looks = names_and_looks(strength, 11)
        values = images_of(looks, each, 12)
        once, several = (
            best_weight(side, names, photos, torch.full(photos.shape[:2], 1 / photos.shape[1]), torch.ones(CLASSES))
            for photos in (values, values.repeat_interleave(times, dim=1))
        )
        assert once == several > 0


def test_many_neighbours_that_are_alike_bear_witness(side: EvidenceFusion) -> None:
    """None has a twentieth of the attention."""
    names, looks = names_and_looks(0.6, 13)
    attention, believed = torch.full((CLASSES, 25), 1 / 25), torch.full((CLASSES,), 0.4)
    assert best_weight(side, names, images_of(looks, 25, 14), attention, believed) >= 4


@pytest.mark.parametrize("each", [2, 3, 8])
def test_images_of_others_ask_for_nothing(side: EvidenceFusion, each: int) -> None:
    """The least confident of wrong answers is no weight."""
    names, looks = names_and_looks(0.75, 15)
    values = images_of(looks, each, 16).flatten(0, 1)
    mixed_up = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))].view(CLASSES, each, D)
    assert best_weight(side, names, mixed_up, torch.full((CLASSES, each), 1 / each), torch.ones(CLASSES)) == 0


def test_where_half_of_the_labels_have_one_pair_the_others_do_not_speak_for_them(
    fusion: Fusion, side: EvidenceFusion
) -> None:
    names, looks = names_and_looks(0.75, 17)
    values, similarities = images_of(looks, 8, 18), torch.full((CLASSES, 8), 0.9)
    single = torch.arange(CLASSES) % 2 == 0
    similarities[single, 1:] = 0.4
    mask = torch.ones(CLASSES, 8, dtype=torch.bool)
    weights = weigh_label_set(fusion, names, values, similarities, mask, names.unsqueeze(1))
    assert weights is not None and weights.text > 0
    attention = side.attend(similarities, mask)
    asked, labels = images_of(looks, 8, 19).flatten(0, 1), torch.arange(CLASSES).repeat_interleave(8)
    texts = F.normalize(names + weights.text * side.direction(*side.evidence(values, attention)), dim=-1)
    frozen, refined = ((asked @ one.T).argmax(dim=1).eq(labels).float().mean() for one in (names, texts))
    assert refined > frozen


def test_a_label_whose_one_photo_has_nearly_all_of_its_attention_has_a_single_pair(fusion: Fusion) -> None:
    """Nothing is left to judge by without it; that would count against the memory."""
    names, looks = names_and_looks(0.75, 25)
    values, mask = images_of(looks, 4, 26), torch.ones(CLASSES, 4, dtype=torch.bool)
    found = []
    for gap in (0.12, 0.14):  # 92 % of the attention, and 96
        similarities = torch.full((CLASSES, 4), 0.9)
        similarities[::2, 1:] -= gap
        weights = weigh_label_set(fusion, names, values, similarities, mask, names.unsqueeze(1))
        assert weights is not None
        found.append(weights.text)
    assert found[0] / 5 < found[1] < found[0] * 5


def fitted_on(names: Tensor, images: Tensor) -> EvidenceFusion:
    """A side fitted on names (C, D) and their images (C, each, D)."""
    entity = torch.arange(len(names)).repeat_interleave(images.shape[1])
    pairs = EntityPairs(images.flatten(0, 1), names[entity], entity)
    found = fit_evidence(pairs, FusionConfig("evidence", D, k=images.shape[1]), alone=False).text
    assert isinstance(found, EvidenceFusion)
    return found


@pytest.mark.parametrize("each", [2, 3, 5])
def test_an_image_meets_the_whitening_that_never_saw_it(each: int) -> None:
    """By the closed form, and by inverting again what was inverted without the image."""
    names, looks = names_and_looks(0.75, 31)
    names, values = names[:30], images_of(looks[:30], each, 32)
    side = fitted_on(names, values)
    images, labels = values.flatten(0, 1), torch.arange(30).repeat_interleave(each)
    attention, certainty = torch.full((30, each), 1 / each), torch.ones(len(images))
    found = LeftOut.of(side, names, values, attention, images, labels, certainty)
    old = copy.deepcopy(side)
    old.leverage.zero_()
    known = LeftOut.of(old, names, values, attention, images, labels, certainty)
    for place in range(0, len(images), 7):
        image, label = images[place], int(labels[place])
        kept = values[label][(values[label] - image).norm(dim=1) > 1e-6]
        scatter = torch.linalg.inv(side.whitening.double())
        for rows, sign in ((values[label], -1), (kept, 1)):
            apart = (rows - rows.mean(dim=0)).double()
            scatter += sign * side.one_part.double() * apart.T @ apart
        across = image - (image @ side.axis) * side.axis
        more = torch.linalg.inv(scatter).float() - side.whitening
        means = torch.stack([(kept if row == label else values[row]).mean(dim=0) - side.centre for row in range(30)])
        expected = means @ (more @ across)
        torch.testing.assert_close(found.from_memory[place] - known.from_memory[place], expected, atol=1e-3, rtol=2e-2)


@pytest.mark.parametrize("each", [2, 3, 5])
@pytest.mark.parametrize("strength", [0.75, 0.9])
def test_a_memory_is_weighed_as_well_by_a_fusion_that_was_fitted_on_it(each: int, strength: float) -> None:
    """What a fusion saw looks easy to it: weights came out ten times too large, and new images lost by them."""
    regrets = []
    for seed in range(40, 43):
        names, looks = (rows[:40] for rows in names_and_looks(strength, seed))
        values, attention = images_of(looks, each, 2 * seed), torch.full((40, each), 1 / each)
        side = fitted_on(names, values)
        chosen = best_weight(side, names, values, attention, torch.ones(40))
        losses = fresh_losses(side, names, values, images_of(looks, 20, 3 * seed))
        regrets.append(losses[WEIGHTS.index(chosen)] - min(losses))
    assert sum(regrets) / 3 < 0.05


def test_what_a_fusion_saw_and_what_it_did_not_are_told_apart() -> None:
    """A memory that grew: each half is weighed as if it were alone, and a half of strangers costs the other nothing."""
    names, looks = (rows[:60] for rows in names_and_looks(0.75, 50))
    values, attention = images_of(looks, 3, 51), torch.full((60, 3), 1 / 3)
    images, labels = values.flatten(0, 1), torch.arange(60).repeat_interleave(3)
    side = fitted_on(names[:40], values[:40])
    old = copy.deepcopy(side)
    old.leverage.zero_()
    found, known = (
        LeftOut.of(one, names, values, attention, images, labels, torch.ones(180)).from_memory for one in (side, old)
    )
    changed = (found != known).any(dim=1)
    assert changed[:120].float().mean() > 0.8
    assert changed[120:].float().mean() < 0.2


def test_a_fusion_from_before_weighs_as_it_did(side: EvidenceFusion) -> None:
    """Its checkpoint says nothing of what one image changes."""
    state = side.state_dict()
    for name in ("one_part", "leverage"):
        del state[name]
    old = EvidenceFusion(FusionConfig("evidence", D, k=6))
    old.load_state_dict(state)
    assert float(old.leverage) == 0
