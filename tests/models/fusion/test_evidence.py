"""The evidence design: where it starts, its twin in plain words, and how a set of labels is weighed."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import KNOWN, EvidenceFusion
from models.fusion.label_set import LabelSetWeights, best_weight, weigh_label_set
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence

D, CLASSES, PER_CLASS, K = 64, 60, 8, 10


class World(NamedTuple):
    """Classes that look alike but for half of the dimensions; a name tells its look as far as `strength` says."""

    image: Tensor
    text: Tensor
    entity: Tensor
    names: Tensor


def world(strength: float, seed: int = 0, classes: int = CLASSES) -> World:
    dice = torch.Generator().manual_seed(seed)
    nuisance = torch.cat([torch.full((D // 2,), 0.02), torch.full((D // 2,), 0.25)])  # pose and light: the second half
    centre = torch.zeros(D).index_fill_(0, torch.tensor([0]), 1.0)
    looks = 0.09 * torch.randn(classes, D, generator=dice) * (nuisance < 0.1)
    opaque = 0.09 * torch.randn(classes, D, generator=dice)
    entity = torch.arange(classes).repeat_interleave(PER_CLASS)
    noise = nuisance * torch.randn(len(entity), D, generator=dice)
    image = F.normalize(centre + looks[entity] + noise, dim=-1)
    names = F.normalize(-centre + strength * looks + (1 - strength) * opaque, dim=-1)
    text = F.normalize(names[entity] + 0.01 * torch.randn(len(entity), D, generator=dice), dim=-1)
    return World(image, text, entity, names)


def fitted(seen: World) -> Fusion:
    return fit_evidence(EntityPairs(seen.image, seen.text, seen.entity), FusionConfig("evidence", D, k=K))


def search(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    similarities, rows = (queries @ keys.T).topk(K, dim=1)
    return values[rows], similarities, torch.ones_like(rows, dtype=torch.bool)


def accuracy(images: Tensor, names: Tensor, labels: Tensor) -> float:
    return float((images @ names.T).argmax(dim=1).eq(labels).float().mean() * 100)


class Measured(NamedTuple):
    weights: LabelSetWeights
    frozen: float
    refined: float


def classify(fusion: Fusion, memory: World, asked: World, pairing: Tensor | None = None) -> Measured:
    """Fresh images of the same classes against the names, weighed as a set."""
    values = memory.image if pairing is None else memory.image[pairing]
    found = search(asked.names, memory.text, values)
    weights = weigh_label_set(fusion, asked.names, *found, search(asked.names, memory.text, memory.text)[0])
    assert weights is not None
    names = fusion.text(asked.names, *found, torch.tensor(weights.text))
    looks = search(asked.image, values, memory.text)
    images = fusion.image(asked.image, *looks, torch.tensor(weights.image))
    frozen = accuracy(asked.image, asked.names, asked.entity)
    return Measured(weights, frozen, accuracy(images, names, asked.entity))


def again(strength: float, seed: int) -> tuple[World, World]:
    """A memory of unseen classes, and fresh images of the same ones."""
    whole = world(strength, seed)
    first = torch.arange(len(whole.entity)) % PER_CLASS < PER_CLASS // 2
    parts = [World(whole.image[half], whole.text[half], whole.entity[half], whole.names) for half in (first, ~first)]
    return parts[0], parts[1]


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    return fitted(world(1.0))


def test_weight_0_and_no_neighbours_are_clip_exactly(fusion: Fusion) -> None:
    memory, asked = again(1.0, 5)
    found = search(asked.names, memory.text, memory.image)
    torch.testing.assert_close(fusion.text(asked.names, *found, torch.tensor(0.0)), asked.names, atol=1e-6, rtol=0)
    nobody = (found[0] * 0, found[1] * 0, torch.zeros_like(found[2]))
    torch.testing.assert_close(fusion.text(asked.names, *nobody, torch.tensor(3.0)), asked.names, atol=1e-6, rtol=0)
    alone = fusion.refine("text", asked.names, *nobody, keys=memory.text[:CLASSES, None].expand_as(nobody[0]))
    torch.testing.assert_close(alone, asked.names, atol=1e-6, rtol=0)
    none = tuple(part[:, :0] for part in found)
    alone = fusion.refine("text", asked.names, *none, keys=none[0])
    torch.testing.assert_close(alone, asked.names, atol=1e-6, rtol=0)


def test_the_forward_is_the_formula_of_its_docstring(fusion: Fusion) -> None:
    memory, asked = again(1.0, 5)
    values, similarities, mask = search(asked.names, memory.text, memory.image)
    mask[0, 4:] = False
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    refined = side(asked.names, values, similarities, mask, torch.full((CLASSES,), 0.7))
    axis = side.centre / side.centre.norm()
    for row in range(3):
        real = mask[row]
        attention = torch.softmax(similarities[row][real] / side.temperature, dim=0)
        m = attention @ values[row][real] - side.centre
        o = m @ side.whitening
        o = o - (o @ axis) * axis - (0.25 * (m @ side.whitening) @ m / side.centre.norm()) * axis
        torch.testing.assert_close(refined[row], F.normalize(asked.names[row] + 0.7 * o, dim=0), atol=1e-5, rtol=1e-4)


def test_masked_neighbours_change_nothing_and_rows_do_not_meet(fusion: Fusion) -> None:
    memory, asked = again(0.0, 6)
    values, similarities, mask = search(asked.names, memory.text, memory.image)
    mask[:, 6:] = False
    keys, _, _ = search(asked.names, memory.text, memory.text)
    refined = fusion.refine("text", asked.names, values, similarities, mask, keys)
    other, others = (torch.where(mask.unsqueeze(-1), one, torch.full_like(one, 0.1)) for one in (values, keys))
    torch.testing.assert_close(fusion.refine("text", asked.names, other, similarities * mask, mask, others), refined)
    assert not torch.allclose(refined, asked.names, atol=1e-3)
    alone = fusion.refine("text", *(part[3:4] for part in (asked.names, values, similarities, mask, keys)))
    torch.testing.assert_close(alone, refined[3:4])


def test_weak_names_are_looked_up_and_strong_names_lose_nothing(fusion: Fusion) -> None:
    weak = classify(fusion, *again(0.0, 7))
    strong = classify(fusion, *again(1.0, 8))
    assert weak.refined >= weak.frozen + 30
    assert strong.refined >= strong.frozen - 2  # 5 images of 240
    assert strong.weights.text < weak.weights.text


def test_what_varies_within_an_entity_is_damped(fusion: Fusion) -> None:
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    strength = side.whitening.diagonal()
    assert strength[1 : D // 2].mean() > 1.2 * strength[D // 2 :].mean()


def test_a_memory_with_shuffled_captions_is_not_trusted(fusion: Fusion) -> None:
    memory, asked = again(1.0, 9)
    shuffled = torch.randperm(len(memory.image), generator=torch.Generator().manual_seed(0))
    measured = classify(fusion, memory, asked, shuffled)
    assert measured.weights.text == measured.weights.image == 0
    assert measured.refined == measured.frozen


@pytest.mark.parametrize("present", [0, CLASSES // 2])
def test_labels_that_the_memory_does_not_hold_are_left_to_clip(fusion: Fusion, present: int) -> None:
    memory, asked = again(1.0, 10)
    other = world(1.0, 11)
    kept = memory.entity < present
    parts = (torch.cat([mine[kept], theirs]) for mine, theirs in zip(memory[:3], other[:3], strict=True))
    measured = classify(fusion, World(*parts, memory.names), asked)
    assert measured.weights.unknown >= 0.25
    assert measured.refined == measured.frozen


def signs(fusion: Fusion, memory: World, names: Tensor) -> Tensor:
    """(C, NUM_SIGNS) of names that are asked for."""
    values, similarities, mask = search(names, memory.text, memory.image)
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    best = search(names, memory.text, memory.text)[0][:, 0]
    return side.signs(names, best, values, side.attend(similarities, mask))


def held(fusion: Fusion, memory: World, names: Tensor) -> Tensor:
    """(C,): the probability that the memory holds what each name stands for."""
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    return side.held(signs(fusion, memory, names))


def test_what_is_held_is_told_from_what_is_not_by_the_nearest_caption_alone(fusion: Fusion) -> None:
    memory, asked = again(1.0, 10)
    absent = world(1.0, 11).names
    there, missing = ((held(fusion, memory, names) < KNOWN).float().mean() for names in (asked.names, absent))
    assert there <= 0.15 and missing >= 0.95
    values, similarities, mask = search(asked.names, memory.text, memory.image)
    keys, _, _ = search(asked.names, memory.text, memory.text)
    weights = [weigh_label_set(fusion, asked.names, values, similarities, mask, keys[:, :k]) for k in (1, K)]
    assert weights[0] == weights[1]


def test_whether_it_is_found_and_whether_it_is_paired_are_two_questions(fusion: Fusion) -> None:
    """A regression for both would let exact names outvote images that have nothing in common, or the other way."""
    memory, asked = again(1.0, 10)
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    order = torch.randperm(len(memory.image), generator=torch.Generator().manual_seed(0))
    mixed_up = World(memory.image[order], memory.text, memory.entity, memory.names)
    there, wrong = signs(fusion, memory, asked.names), signs(fusion, mixed_up, asked.names)
    assert torch.equal(side.found(wrong), side.found(there))
    assert side.paired(there).median() > 2 * side.paired(wrong).median()
    missing = signs(fusion, memory, world(1.0, 11).names)
    assert side.found(there).min() > 0.8 and side.found(missing).max() < 0.2
    torch.testing.assert_close(side.held(there), side.found(there) * side.paired(there))


def verbatim(seen: World) -> World:
    """The same, with every caption its class's name to the letter."""
    return World(seen.image, seen.names[seen.entity], seen.entity, seen.names)


def worded(names: Tensor, common: float, own: float) -> Tensor:
    """Names in other words: moved alike by what all of them share (a length), and each by something of its own."""
    dice = torch.Generator().manual_seed(3)
    shared, single = torch.randn(D, generator=dice), torch.randn(names.shape, generator=dice)
    return F.normalize(names + common * F.normalize(shared, dim=0) + own * F.normalize(single, dim=-1), dim=-1)


@pytest.fixture(scope="module")
def taught_one_wording() -> Fusion:
    return fitted(verbatim(world(1.0)))


@pytest.mark.parametrize(("common", "own"), [(0.0, 0.15), (0.5, 0.1)])
def test_captions_of_one_wording_are_found_by_labels_in_other_words(
    taught_one_wording: Fusion, common: float, own: float
) -> None:
    memory, asked = (verbatim(half) for half in again(0.0, 7))
    asked = asked._replace(names=worded(asked.names, common, own))
    found = classify(taught_one_wording, memory, asked)
    assert found.weights.unknown <= 0.1 and found.refined >= found.frozen + 30
    order = torch.randperm(len(memory.image), generator=torch.Generator().manual_seed(0))
    mixed_up = classify(taught_one_wording, memory, asked, order)
    assert mixed_up.weights.text == 0 and mixed_up.refined == mixed_up.frozen
    other = verbatim(world(0.0, 11))
    missing = classify(taught_one_wording, World(*other[:3], memory.names), asked)
    assert missing.weights.text == 0 and missing.weights.unknown > 0.9


def test_one_missing_label_does_not_pass_by_its_own_difference(taught_one_wording: Fusion) -> None:
    """What labels share is what the others say of each: a label alone shares nothing, and two cannot vouch."""
    memory = verbatim(again(0.0, 7)[0])
    absent = world(0.0, 11).names
    for count in (1, 2, 3):
        names = absent[:count]
        found = search(names, memory.text, memory.image)
        keys, _, _ = search(names, memory.text, memory.text)
        weights = weigh_label_set(taught_one_wording, names, *found, keys)
        assert weights is not None and weights.unknown == 1.0


def test_images_of_a_half_believed_label_bear_no_witness(fusion: Fusion) -> None:
    """What a missing label finds is another thing's: only the memory could tell the two apart, so its weight grew."""
    memory, asked = again(1.0, 8)
    values, similarities, mask = search(asked.names, memory.text, memory.image)
    side = fusion.text
    assert isinstance(side, EvidenceFusion)
    missing = torch.arange(CLASSES) % 5 == 0
    values[missing] = values[missing.roll(1)]
    attention = side.attend(similarities, mask)
    never, half, fully = (
        best_weight(side, asked.names, values, attention, torch.where(missing, belief, 0.97))
        for belief in (0.0, 0.5, 0.97)
    )
    assert never <= half <= 2 * never < fully / 10


def test_a_checkpoint_from_before_is_judged_as_before(fusion: Fusion) -> None:
    """One regression on three signs (`held`), or on two (`presence`); below 0.05 and 0.1 a label was missing."""
    state = {name: value for name, value in fusion.state_dict().items() if "found" not in name and "paired" not in name}
    two = {f"{side}.presence.weight": torch.tensor([-2.0, 9.0]) for side in ("image", "text")}
    two |= {f"{side}.presence.bias": torch.tensor(-6.0) for side in ("image", "text")}
    three = {f"{side}.held.weight": torch.tensor([-2.0, 9.0, 1.5]) for side in ("image", "text")}
    three |= {f"{side}.held.bias": torch.tensor(-7.0) for side in ("image", "text")}
    asked = torch.stack([torch.linspace(-4, 0, 200), torch.linspace(0.8, 0, 200), torch.linspace(3, 0, 200)], dim=1)
    for former, missing in (
        (state | two, torch.sigmoid(asked[:, :2] @ torch.tensor([-2.0, 9.0]) - 6) < 0.1),
        (state | two | three, torch.sigmoid(asked @ torch.tensor([-2.0, 9.0, 1.5]) - 7) < 0.05),
    ):
        loaded = Fusion(FusionConfig("evidence", D, k=K))
        loaded.load_state_dict(former)
        side = loaded.text
        assert isinstance(side, EvidenceFusion)
        assert 5 < missing.sum() < 195
        assert torch.equal(side.held(asked) < KNOWN, missing)


def test_one_label_and_other_designs_have_nothing_to_weigh(fusion: Fusion) -> None:
    memory, asked = again(1.0, 12)
    values, similarities, mask = (part[:1] for part in search(asked.names, memory.text, memory.image))
    found = values, similarities, mask, search(asked.names, memory.text, memory.text)[0][:1]
    weights = weigh_label_set(fusion, asked.names[:1], *found)
    assert weights is not None
    assert weights.text == weights.image == 0
    assert weigh_label_set(Fusion(FusionConfig("gate", D)), asked.names[:1], *found) is None


def test_fitting_is_deterministic_and_refuses_what_it_cannot_use() -> None:
    seen = world(1.0)
    again_fitted, first = fitted(seen).state_dict(), fitted(seen).state_dict()
    assert all(torch.equal(first[name], again_fitted[name]) for name in first)
    few = seen.entity < 4
    with pytest.raises(ValueError, match="4 entities with at least two pairs each"):
        EntityPairs(seen.image[few], seen.text[few], seen.entity[few])
    with pytest.raises(ValueError, match="at least two pairs"):
        EntityPairs(seen.image[::PER_CLASS], seen.text[::PER_CLASS], torch.arange(CLASSES))
    assert dataclasses.asdict(FusionConfig("evidence", D))["design"] == "evidence"
