"""A design is chosen by what the service would answer: where captions name the entities, labels find theirs by them."""

import pytest
import torch
import torch.nn.functional as F

from models.fusion import FusionConfig
from models.training.choice import Candidate, choose, measure
from models.training.dataset.entity_pairs import EntityPairs, ask
from models.training.fitting.evidence import fit_evidence

D, THINGS, K = 64, 150, 5


@pytest.fixture(scope="module")
def codes() -> EntityPairs:
    """Four pairs each of things with looks of their own, and names that all but coincide, as codes do."""
    dice = torch.Generator().manual_seed(0)
    looks, names, every = torch.randn(THINGS, D, generator=dice), torch.randn(THINGS, D, generator=dice), torch.ones(D)
    entity = torch.arange(THINGS).repeat_interleave(4)
    image = looks[entity] + 0.6 * torch.randn(len(entity), D, generator=dice)
    text = every + 0.02 * names[entity] + 0.3 * torch.randn(len(entity), D, generator=dice)
    return EntityPairs(F.normalize(image, dim=-1), F.normalize(text, dim=-1), entity)


def test_a_named_entity_finds_its_own_that_do_not_ask(codes: EntityPairs) -> None:
    asked = ask(codes, "text", K, named=True)
    assert asked.mask.sum(dim=1).eq(2).all(), "two of its four ask"
    found = codes.entity[asked.rows[asked.mask]]
    assert torch.equal(found, torch.arange(THINGS).repeat_interleave(2))
    assert not codes.asks[asked.rows[asked.mask]].any()


def test_things_that_captions_name_are_measured_as_such(codes: EntityPairs) -> None:
    fusion = fit_evidence(codes, FusionConfig("evidence", D, k=K), alone=False)
    assert measure(codes, None, K) < 15
    assert measure(codes, fusion, K) < 15, "by embeddings alone no name finds its own"
    assert measure(codes, fusion, K, captions_name=True) > 80


def test_the_design_that_weighs_labels_is_taken_where_captions_name_them(codes: EntityPairs) -> None:
    choice = choose(codes, K, captions_name=True)
    assert choice.design == "evidence" and choice.candidates[0].accuracy > 80
    assert choice.leads[0].by > 50 and not choice.leads[0].within_noise


def test_of_what_is_within_noise_the_design_that_takes_nothing_away_is_taken(
    codes: EntityPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"evidence": 0.10, "copy": 0.12, "faithful": 0.08}

    def named_rightly(pairs: EntityPairs, fusion: object, *_: object) -> torch.Tensor:
        count = len(pairs.questions[1])
        share = right[fusion.config.design] if fusion is not None else 0.1  # type: ignore[attr-defined]
        return (torch.arange(count) < share * count).float()

    monkeypatch.setattr("models.training.choice.named_rightly", named_rightly)
    few = codes.of_entities(torch.arange(50))
    choice = choose(few, K)
    assert [one.design for one in choice.candidates] == ["evidence", "copy", "faithful"]
    assert choice.gains and "behind copy by" in choice.reason and "within noise" in choice.reason
    right["copy"] = 0.9
    assert choose(few, K).candidates[0] == Candidate("copy", pytest.approx(90, abs=6))
