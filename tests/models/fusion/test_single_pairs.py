"""Labels of which the memory holds one pair each: no image can be left out, so the names alone say how far to go."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion import Fusion, FusionConfig
from models.fusion.label_set import LabelSetWeights, weigh_label_set
from models.fusion.names_alone import NamesAlone
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence

D, CLASSES, PER_CLASS, K = 64, 80, 6, 10
STRONG, WEAK = 1.0, 0.35  # how far a name tells the look


class World(NamedTuple):
    """Images of classes, the entity of each, and a name a class, which is its caption."""

    image: Tensor
    entity: Tensor
    names: Tensor


def world(strength: float, seed: int) -> World:
    dice = torch.Generator().manual_seed(seed)
    centre = torch.zeros(D).index_fill_(0, torch.tensor([0]), 1.0)
    looks, opaque = 0.09 * torch.randn(2, CLASSES, D, generator=dice)
    entity = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    image = F.normalize(centre + looks[entity] + 0.1 * torch.randn(len(entity), D, generator=dice), dim=-1)
    names = F.normalize(-centre + strength * looks + (1 - strength) * opaque, dim=-1)
    return World(image, entity, names)


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    seen = world(STRONG, 0)
    pairs = EntityPairs(seen.image, seen.names[seen.entity], seen.entity)
    return fit_evidence(pairs, FusionConfig("evidence", D, k=K), alone=False)


class Measured(NamedTuple):
    weights: LabelSetWeights
    frozen: float
    refined: float


def classify(fusion: Fusion, asked: World, memory: Tensor) -> Measured:
    """The images that are not in the memory, among all names; `memory` are rows of the world's images."""
    queries = torch.ones(len(asked.entity), dtype=torch.bool).index_fill_(0, memory, False)
    return named(fusion, asked, asked.image[memory], asked.names[asked.entity[memory]], queries)


def named(fusion: Fusion, asked: World, images: Tensor, captions: Tensor, queries: Tensor) -> Measured:
    similarities, rows = (asked.names @ captions.T).topk(K, dim=1)
    found = images[rows], similarities, torch.ones_like(rows, dtype=torch.bool)
    weights = weigh_label_set(fusion, asked.names, *found, captions[rows])
    assert weights is not None
    texts = fusion.text(asked.names, *found, torch.tensor(weights.text))
    scores = asked.image[queries] @ torch.stack([asked.names, texts]).transpose(1, 2)  # (2, Q, C)
    frozen, refined = (scores.argmax(dim=2) == asked.entity[queries]).float().mean(dim=1) * 100
    return Measured(weights, float(frozen), float(refined))


def first_of_each(pairs: int = 1) -> Tensor:
    return torch.nonzero(torch.arange(CLASSES * PER_CLASS) % PER_CLASS < pairs).squeeze(1)


def test_one_pair_a_label_helps_where_names_say_little(fusion: Fusion) -> None:
    found = classify(fusion, world(WEAK, 5), first_of_each())
    assert found.weights.unknown < 0.1
    assert found.frozen < 50 and found.refined > found.frozen + 10


def test_one_pair_a_label_does_no_harm_where_names_say_all(fusion: Fusion) -> None:
    found = classify(fusion, world(STRONG, 6), first_of_each())
    assert found.frozen > 80 and found.refined >= found.frozen - 0.5
    assert 0 < found.weights.text < 0.1


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_captions_beside_somebody_elses_image_are_noticed(fusion: Fusion, share: float) -> None:
    asked, memory = world(WEAK, 5), first_of_each()
    images = asked.image[memory]
    mixed = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(1))[: round(share * CLASSES)]
    images[mixed] = images[mixed.roll(1)]
    queries = torch.arange(len(asked.entity)) % PER_CLASS > 0
    found = named(fusion, asked, images, asked.names, queries)
    assert found.weights.text == 0 and found.refined == found.frozen
    assert found.weights.unknown == pytest.approx(share, abs=0.2)


def test_what_the_memory_lacks_is_not_taken_for_a_single_pair(fusion: Fusion) -> None:
    asked, other = world(WEAK, 5), world(WEAK, 9)
    found = named(
        fusion, asked, other.image[first_of_each()], other.names, torch.ones(len(asked.entity), dtype=torch.bool)
    )
    assert found.weights.text == 0 and found.weights.unknown > 0.9


def test_labels_with_one_pair_and_with_several_are_weighed_together(fusion: Fusion) -> None:
    """Where half of the labels had a single pair, they had counted as missing, and no label had any weight."""
    asked = world(WEAK, 5)
    single, several = classify(fusion, asked, first_of_each()), classify(fusion, asked, first_of_each(4))
    half = torch.cat([first_of_each(4)[: CLASSES * 2], first_of_each()[CLASSES // 2 :]])
    found = classify(fusion, asked, half)
    assert single.weights.text < found.weights.text < several.weights.text
    assert found.refined > single.refined


def test_few_labels_that_fit_may_fit_by_chance() -> None:
    """Ten labels' names that find all their images leave some doubt, and two or three leave too much."""
    for count, doubtful in ((2, 0.5), (3, 0.4), (10, 1 / 6), (100, 0.02)):
        found = NamesAlone.of(torch.eye(count), torch.arange(count), torch.eye(count))
        assert found.mixed_up == 0 and found.doubtful == pytest.approx(doubtful, abs=0.001)
        assert found.odds == pytest.approx(0.5 / (count + 0.5))


def test_the_names_are_judged_by_the_rank_of_an_images_own_label() -> None:
    texts = torch.eye(4)
    images = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.9, 0.3, 0.1, 0.0], [0.0, 0.9, 0.1, 0.5], [0.5, 0.4, 0.3, 0.1]])
    found = NamesAlone.of(images, torch.arange(4), texts)  # ranks 0, 1, 2 and 3: two of the less likely half
    assert found.odds == pytest.approx(3.5 / 1.5) and found.mixed_up == found.doubtful == 1.0
    believed = NamesAlone.of(images, torch.arange(4), texts, torch.tensor([2.0, 2.0, 0.0, 0.0]))
    assert believed.odds == pytest.approx(1.0)
    assert believed.mixed_up == 0 and believed.doubtful == pytest.approx(2 / 6)


def test_captions_that_fit_their_images_vouch_for_names_that_the_encoder_cannot_read() -> None:
    """Codes rank images by chance, as the names of mixed-up pairs do; their captions do not."""
    dice = torch.Generator().manual_seed(4)
    images, codes = (F.normalize(torch.randn(200, D, generator=dice), dim=-1) for _ in range(2))
    captions = F.normalize(images + 0.2 * torch.randn(200, D, generator=dice), dim=-1)
    labels, named = torch.arange(200), torch.ones(200, dtype=torch.bool)
    assert NamesAlone.of(images, labels, codes).mixed_up > 0.8
    fitting = NamesAlone.of(images, labels, codes, captions=captions, named=named)
    assert fitting.mixed_up < 0.05 and fitting.doubtful < 0.1 and fitting.odds > 50
    mixed = NamesAlone.of(images[torch.randperm(200, generator=dice)], labels, codes, captions=captions, named=named)
    assert mixed.mixed_up > 0.8


def test_captions_vouch_for_labels_that_they_name_and_for_no_others() -> None:
    images, labels = torch.eye(8), torch.arange(8)
    codes, named = -images, torch.arange(8) < 4
    alone = NamesAlone.of(images, labels, codes)
    half = NamesAlone.of(images, labels, codes, captions=images, named=named)
    assert alone.mixed_up == 1 and half.mixed_up == 1 and half.doubtful == 1
    named = torch.arange(8) < 7
    most = NamesAlone.of(images, labels, codes, captions=images, named=named)
    assert most.mixed_up == pytest.approx(2 / 8) and most.doubtful == pytest.approx(4 / 10)


@pytest.mark.parametrize("pairs", [1, 3])
def test_captions_that_hold_a_known_name_in_another_sense_get_no_weight(fusion: Fusion, pairs: int) -> None:
    """A Seal Beach is no seal: its caption fits its image, is far from the label, and has its letters."""
    asked, other = world(STRONG, 5), world(STRONG, 55)
    labels, rows = torch.arange(CLASSES), first_of_each(pairs)
    images, captions = (part[rows].reshape(CLASSES, pairs, D) for part in (other.image, other.names[other.entity]))
    similarities = torch.einsum("cd,ckd->ck", asked.names, captions)
    found = images, similarities, torch.ones(CLASSES, pairs, dtype=torch.bool), captions
    named = torch.ones_like(labels, dtype=torch.bool)
    weights = weigh_label_set(fusion, asked.names, *found, named=named, near=~named)
    assert weights is not None and weights.text == 0 and weights.unknown > 0.9


@pytest.mark.parametrize("pairs", [1, 3])
def test_names_that_cannot_be_read_are_known_by_captions_from_anywhere(fusion: Fusion, pairs: int) -> None:
    asked, rows = world(STRONG, 5), first_of_each(pairs)
    dice = torch.Generator().manual_seed(1)
    codes = F.normalize(asked.names.mean(dim=0) + 0.01 * torch.randn(CLASSES, D, generator=dice), dim=-1)
    images, captions = (part[rows].reshape(CLASSES, pairs, D) for part in (asked.image, asked.names[asked.entity]))
    similarities = torch.einsum("cd,ckd->ck", codes, captions)
    found = images, similarities, torch.ones(CLASSES, pairs, dtype=torch.bool), captions
    named = torch.ones(CLASSES, dtype=torch.bool)
    weights = weigh_label_set(fusion, codes, *found, named=named, near=~named)
    assert weights is not None and weights.text > 4 and weights.unknown < 0.1
    mixed = images[torch.randperm(CLASSES, generator=dice)], *found[1:]
    weights = weigh_label_set(fusion, codes, *mixed, named=named, near=~named)
    assert weights is not None and (weights.text == 0) == (pairs == 1)


def test_captions_that_are_all_alike_vouch_for_nothing() -> None:
    images, labels, named = torch.eye(8), torch.arange(8), torch.ones(8, dtype=torch.bool)
    captions = F.normalize(torch.ones(8, 8), dim=-1)
    assert NamesAlone.of(images, labels, -images, captions=captions, named=named).mixed_up == 1


def test_one_photo_with_several_captions_is_a_single_pair(fusion: Fusion) -> None:
    """Copies agree with each other, and with all of them left out nothing is left to weigh by."""
    asked, memory = world(WEAK, 5), first_of_each()
    twice = asked.names.repeat(2, 1) + 0.01 * torch.randn(2 * CLASSES, D, generator=torch.Generator().manual_seed(0))
    queries = torch.arange(len(asked.entity)) % PER_CLASS > 0
    once = named(fusion, asked, asked.image[memory], asked.names, queries)
    found = named(fusion, asked, asked.image[memory].repeat(2, 1), F.normalize(twice, dim=-1), queries)
    assert found.weights.text == pytest.approx(once.weights.text, rel=0.3)
    assert found.refined > found.frozen + 10


def test_a_label_that_is_named_is_found_but_its_image_is_judged(fusion: Fusion) -> None:
    """Also by checkpoints from before, in which one regression judges both (`_from_before`)."""
    asked = world(WEAK, 5)
    rows = first_of_each(4)
    captions, images = asked.names[asked.entity[rows]], asked.image[rows]
    far = F.normalize(captions + 0.1 * torch.randn(captions.shape, generator=torch.Generator().manual_seed(3)), dim=-1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

    def weights(side_of: Fusion, images: Tensor, *, told: bool) -> LabelSetWeights:
        similarities, near = (asked.names @ far.T).topk(K, dim=1)
        found = images[near], similarities, torch.ones_like(near, dtype=torch.bool), far[near]
        weighed = weigh_label_set(side_of, asked.names, *found, named=torch.full((CLASSES,), told))
        assert weighed is not None
        return weighed

    assert weights(fusion, images, told=False).unknown > 0.5 > weights(fusion, images, told=True).unknown
    assert weights(fusion, images[order], told=True).text == 0
    former = Fusion(fusion.config)
    state = {name: one for name, one in fusion.state_dict().items() if "found" not in name and "paired" not in name}
    for side in ("image", "text"):
        state[f"{side}.presence.weight"], state[f"{side}.presence.bias"] = torch.tensor([-2.0, 9.0]), torch.tensor(-6.0)
        state[f"{side}.held.weight"], state[f"{side}.held.bias"] = torch.tensor([-2.0, 9.0, 1.5]), torch.tensor(-7.0)
    former.load_state_dict(state)
    for images_of in (images, images[order]):
        assert weights(former, images_of, told=True) == weights(former, images_of, told=False)
