"""Queries that stand alone: the formula, what the signs say, and that memories which know nothing useful do no harm."""

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import EvidenceFusion
from models.fusion.stand_alone import NUM_SIGNS, StandAlone
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence

D, KNOWN, OPAQUE, PER_CLASS, K = 64, 60, 120, 20, 10


class World(NamedTuple):
    """Classes that half of the dimensions tell apart; the encoder knows the names of the first, not of the others."""

    image: Tensor
    text: Tensor
    entity: Tensor
    names: Tensor


def world(seed: int, known: int = KNOWN, opaque: int = OPAQUE) -> World:
    dice = torch.Generator().manual_seed(seed)
    classes = known + opaque
    nuisance = torch.cat([torch.full((D // 2,), 0.02), torch.full((D // 2,), 0.1)])
    centre = torch.zeros(D).index_fill_(0, torch.tensor([0]), 1.0)
    looks = 0.09 * torch.randn(classes, D, generator=dice) * (nuisance < 0.1)
    invented = 0.09 * torch.randn(classes, D, generator=dice)
    meant = torch.where(torch.arange(classes).unsqueeze(1) < known, looks, invented)
    entity = torch.arange(classes).repeat_interleave(PER_CLASS)
    image = F.normalize(centre + looks[entity] + nuisance * torch.randn(len(entity), D, generator=dice), dim=-1)
    gap = 0.3 * centre + 0.95 * torch.zeros(D).index_fill_(0, torch.tensor([D - 1]), 1.0)  # as CLIP's own
    names = F.normalize(gap + 0.5 * F.normalize(meant * (1 - centre), dim=-1), dim=-1)
    text = F.normalize(names[entity] + 0.03 * torch.randn(len(entity), D, generator=dice), dim=-1)
    return World(image, text, entity, names)


def refined(fusion: Fusion, names: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    similarities, rows = (names @ keys.T).topk(K, dim=1)
    mask = torch.ones_like(rows, dtype=torch.bool)
    return fusion.refine("text", names, values[rows], similarities, mask, keys[rows])


def accuracy(images: Tensor, names: Tensor, labels: Tensor) -> float:
    return float((images @ names.T).argmax(dim=1).eq(labels).float().mean() * 100)


class Asked(NamedTuple):
    """What is in the memory, and fresh images of the same classes, among which the names are told apart."""

    memory: World
    images: Tensor
    labels: Tensor

    def frozen(self) -> float:
        return accuracy(self.images, self.memory.names, self.labels)

    def by(self, fusion: Fusion, kept: Tensor | None = None, order: Tensor | None = None) -> float:
        kept = torch.ones_like(self.memory.entity, dtype=torch.bool) if kept is None else kept
        values = self.memory.image if order is None else self.memory.image[order]
        names = refined(fusion, self.memory.names, self.memory.text[kept], values[kept])
        return accuracy(self.images, names, self.labels)


def asked(seed: int, known: int, opaque: int) -> Asked:
    whole = world(seed, known, opaque)
    inside = torch.arange(len(whole.entity)) % PER_CLASS < PER_CLASS // 2
    memory = World(whole.image[inside], whole.text[inside], whole.entity[inside], whole.names)
    return Asked(memory, whole.image[~inside], whole.entity[~inside])


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    seen = world(0)
    return fit_evidence(EntityPairs(seen.image, seen.text, seen.entity), FusionConfig("evidence", D, k=K))


def test_a_leap_of_the_descent_is_no_part_of_what_is_fitted(fusion: Fusion, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it leapt on real embeddings, where float32 could tell no better point from its neighbours."""

    class Leaping(torch.optim.LBFGS):
        def step(self, closure: Any) -> Any:
            found = super().step(closure)
            with torch.no_grad():
                for part in self.param_groups[0]["params"]:
                    part.fill_(torch.nan)
            assert not closure().isfinite()
            return found

    monkeypatch.setattr(torch.optim, "LBFGS", Leaping)
    seen = world(0)
    leapt = fit_evidence(EntityPairs(seen.image, seen.text, seen.entity), FusionConfig("evidence", D, k=K))
    for name, fitted in fusion.state_dict().items():
        torch.testing.assert_close(leapt.state_dict()[name], fitted, msg=name)


def test_the_weight_is_the_formula_of_its_docstring() -> None:
    alone = StandAlone(D)
    dice = torch.Generator().manual_seed(0)
    for name in ("centre", "there", "needed"):
        getattr(alone, name).copy_(torch.randn(NUM_SIGNS, generator=dice))
    alone.spread.fill_(2.0)
    alone.limit.fill_(3.0)
    alone.there_bias.fill_(0.5)
    alone.needed_bias.fill_(-0.5)
    signs = torch.randn(5, NUM_SIGNS, generator=dice)
    z = (signs - alone.centre) / 2
    by_hand = 3 * torch.sigmoid(z @ alone.there + 0.5) * torch.sigmoid(z @ alone.needed - 0.5)
    torch.testing.assert_close(alone(signs), by_hand)
    torch.testing.assert_close(alone(signs + 1e6), alone(alone.centre + 6 * torch.ones(5, NUM_SIGNS)))


def test_the_signs_of_two_neighbours_by_hand() -> None:
    alone = StandAlone(3)
    strength = torch.tensor([1.0, 4.0, 1e-6])  # the last dimension tells nothing apart
    alone.keys.fit(torch.zeros(3), torch.diag(strength))
    query = torch.tensor([[0.6, 0.0, 0.8]])
    keys = torch.tensor([[[0.6, 0.0, -0.8], [0.0, 1.0, 0.0]]])
    similarities = torch.tensor([[-0.28, 0.0]])
    values = torch.tensor([[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    match = torch.tensor([0.5])
    signs = alone.signs(query, keys, values, similarities, mask, match)[0]
    best, same, coherence, told = signs.tolist()
    assert best == pytest.approx(0.0)  # -log(1 - 0)
    assert same == pytest.approx(9.2103, abs=1e-3)  # the first key differs where nothing is told apart
    assert coherence == pytest.approx(0.6)
    assert told == pytest.approx(0.5)
    single = alone.signs(query, keys, values, similarities, mask & torch.tensor([[True, False]]), match)[0]
    assert float(single[2]) == 0.0
    assert float(single[0]) == pytest.approx(-torch.log(torch.tensor(1.28)).item())


def test_without_keys_no_query_stands_alone(fusion: Fusion) -> None:
    some = world(1, 4, 4)
    found = some.image[None, :K], torch.ones(1, K), torch.ones(1, K, dtype=torch.bool)
    with pytest.raises(AssertionError, match="keys"):
        fusion.text(some.names[:1], *found)


def test_what_the_encoder_does_not_know_is_looked_up(fusion: Fusion) -> None:
    opaque = asked(11, 0, 60)
    assert opaque.by(fusion) >= opaque.frozen() + 30


def test_what_the_encoder_knows_keeps_its_place(fusion: Fusion) -> None:
    known = asked(12, 60, 0)
    assert known.frozen() > 80
    assert known.by(fusion) >= known.frozen() - 1


@pytest.fixture(scope="module")
def blunt(fusion: Fusion) -> Fusion:
    """The control: the same, with the full weight for all."""
    same = copy.deepcopy(fusion)
    side = same.text
    assert isinstance(side, EvidenceFusion)
    for part in (side.stand_alone.there, side.stand_alone.needed):
        part.zero_()
    side.stand_alone.there_bias.fill_(20.0)
    side.stand_alone.needed_bias.fill_(20.0)
    return same


def test_mixed_up_captions_do_no_harm(fusion: Fusion, blunt: Fusion) -> None:
    lost, control = [], []
    for seed in (13, 14, 15):
        known = asked(seed, 60, 0)
        order = torch.randperm(len(known.memory.image), generator=torch.Generator().manual_seed(seed))
        lost.append(known.frozen() - known.by(fusion, order=order))
        control.append(known.frozen() - known.by(blunt, order=order))
    assert max(lost) <= 1
    assert min(control) >= 5


def test_a_memory_that_lacks_all_that_is_asked_does_no_harm(fusion: Fusion, blunt: Fusion) -> None:
    lost, control = [], []
    for seed in (16, 17, 18):
        known, other = asked(seed, 60, 0), world(seed + 100, 60, 60)
        for one, losses in ((fusion, lost), (blunt, control)):
            names = refined(one, known.memory.names, other.text, other.image)
            losses.append(known.frozen() - accuracy(known.images, names, known.labels))
    assert max(lost) <= 2
    assert min(control) >= 5
