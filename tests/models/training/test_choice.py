"""The design is chosen by what held-out entities say, and the reason is told."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from memory import Memory, Modality
from models.fusion import Fusion
from models.training import TrainingPairs
from models.training.choice import Candidate, Choice, choose, measure
from models.training.dataset.entities import by_caption, by_folder
from models.training.dataset.entity_pairs import Asked, EntityPairs, ask, ask_for_pair, asked_word_for_word
from models.training.fitting.evidence import fit_evidence
from models.training.recipes import fusion_config

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def pairs(named_memory: Memory) -> EntityPairs:
    return EntityPairs.from_memory(named_memory, by_caption(named_memory.captions()))


def test_entities_come_from_captions_or_folders_alike(named_memory: Memory, pairs: EntityPairs) -> None:
    assert (pairs.num_entities, len(pairs.image)) == (30, 240)
    folders = EntityPairs.from_memory(named_memory, by_folder(named_memory.keys()))
    same = [one.entity.unsqueeze(0) == one.entity.unsqueeze(1) for one in (pairs, folders)]
    assert torch.equal(*same)


def test_copies_and_what_exceeds_the_bounds_are_left_out(pairs: EntityPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = torch.Generator().manual_seed(0)
    sample = pairs.sample(dice)
    assert len(sample.image) == 239  # item 5 is a copy of item 4
    assert int(torch.bincount(sample.entity).min()) == 7
    monkeypatch.setattr("models.training.dataset.entity_pairs.MOST_PAIRS", 60)
    monkeypatch.setattr("models.training.dataset.entity_pairs.MOST_ENTITIES", 20)
    small = pairs.sample(dice)
    assert (small.num_entities, int(torch.bincount(small.entity).max())) == (20, 3)


def test_too_few_entities_without_copies_are_refused_in_a_sentence(pairs: EntityPairs) -> None:
    rows = torch.arange(20) // 2 * 2  # ten entities, each image twice
    copies = EntityPairs(pairs.image[rows], pairs.text[:20], torch.arange(20) // 2)
    assert copies.without_copies().num_entities == 0
    with pytest.raises(ValueError, match="0 entities with two different images each"):
        fit_evidence(copies, fusion_config("evidence", 128, 5))


def test_of_very_many_pairs_no_more_are_read_than_may_be_needed(
    named_memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.dataset.entity_pairs.MOST_PAIRS", 15)
    monkeypatch.setattr("models.training.dataset.entity_pairs.MOST_ENTITIES", 5)
    read: list[int] = []
    rows = Memory.rows
    monkeypatch.setattr(Memory, "rows", lambda memory, *which: read.append(len(which[1])) or rows(memory, *which))
    few = EntityPairs.from_memory(named_memory, by_caption(named_memory.captions()))
    assert read == [60, 60]  # four times what is used: of 20 entities three pairs each
    assert torch.bincount(few.entity).tolist() == [3] * 20
    again = EntityPairs.from_memory(named_memory, by_caption(named_memory.captions()), seed=1)
    assert not torch.equal(again.image, few.image)


class Largest(TorchDispatchMode):
    """Hears how many numbers the largest similarities had that were ever searched."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.topk.default:
            self.numbers = max(self.numbers, args[0].numel())
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("hidden", [False, True])
def test_a_search_in_blocks_finds_the_same_in_bounded_memory(
    pairs: EntityPairs, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    def search() -> list[Asked]:
        return [ask(pairs, "image", 2, hidden=hidden), ask(pairs, "text", 2), ask_for_pair(pairs, "text", 2)]

    whole = search()
    monkeypatch.setattr("models.training.dataset.entity_pairs._SCORES", 7 * 240)
    with Largest() as largest:
        blocks = search()
    assert largest.numbers == 7 * 240
    for one, other in zip(whole, blocks, strict=True):
        assert torch.equal(one.rows, other.rows)
        torch.testing.assert_close(one.similarities, other.similarities)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_asks_is_not_what_answers(pairs: EntityPairs, modality: str) -> None:
    asked = ask(pairs, modality, 8)  # type: ignore[arg-type]
    own = pairs.entity[asked.rows] == asked.entity.unsqueeze(1)
    assert not (own & pairs.asks[asked.rows]).any()
    assert (own.float().mean(dim=1) > 0).all()  # the other half of the entity is found
    hidden = ask(pairs, modality, 8, hidden=True)  # type: ignore[arg-type]
    assert not (pairs.entity[hidden.rows] == hidden.entity.unsqueeze(1)).any()
    torch.testing.assert_close(asked.similarities.sort(dim=1, descending=True).values, asked.similarities)


def test_names_that_are_captions_word_for_word_are_noticed(pairs: EntityPairs) -> None:
    assert not asked_word_for_word(pairs, 8)
    first = torch.stack([pairs.text[pairs.entity == one][0] for one in range(pairs.num_entities)])
    assert asked_word_for_word(EntityPairs(pairs.image, first[pairs.entity], pairs.entity), 8)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_single_pair_finds_neither_itself_nor_what_is_as_right(pairs: EntityPairs, modality: str) -> None:
    twins = EntityPairs(
        pairs.image, pairs.text.clone().index_copy_(0, torch.tensor([9]), pairs.text[8:9]), pairs.entity
    )
    asked = ask_for_pair(twins, modality, 10)  # type: ignore[arg-type]
    assert asked.entity.tolist() == list(range(240))
    assert (asked.rows != asked.entity.unsqueeze(1)).all()
    assert 9 not in asked.rows[8].tolist() and 8 not in asked.rows[9].tolist()
    same = twins.entity[asked.rows] == twins.entity[asked.entity].unsqueeze(1)
    assert same.float().mean() > 0.3  # others of the entity are knowledge


def test_a_pair_of_an_entity_never_retrieves_itself(pairs: EntityPairs) -> None:
    pairs = pairs.without_copies()
    found = TrainingPairs.from_entities(pairs, num_candidates=5)
    for candidates in found.candidates.values():
        assert (candidates.rows != torch.arange(239).unsqueeze(1)).all()
    exact = (pairs.text @ pairs.text.T).fill_diagonal_(-1).topk(5).values
    torch.testing.assert_close(found.candidates["text"].similarities, exact)
    assert found.positives(torch.tensor([0, 1, 8]))[0].tolist() == [True, True, False]


def with_another_caption(pairs: EntityPairs) -> EntityPairs:
    """Pair 12, of the second entity, has the image of pair 0, which asks for the first."""
    return EntityPairs(pairs.image.index_copy(0, torch.tensor([12]), pairs.image[:1]), pairs.text, pairs.entity)


@pytest.mark.parametrize("how", [{}, {"hidden": True}])
def test_an_image_that_asks_does_not_find_itself_beside_another_caption(
    pairs: EntityPairs, how: dict[str, bool]
) -> None:
    asked = ask(with_another_caption(pairs), "image", 8, **how)  # type: ignore[arg-type]
    assert 12 not in asked.rows[0].tolist()
    assert asked.mask.all()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_single_pair_does_not_find_its_image_beside_another_caption(pairs: EntityPairs, modality: Modality) -> None:
    twins = with_another_caption(pairs)
    everything = ask_for_pair(twins, modality, 239)
    for own, other in ((0, 12), (12, 0)):
        found = everything.rows[own][everything.mask[own]].tolist()
        assert other not in found and own not in found
        candidates = TrainingPairs.from_entities(twins, num_candidates=239).candidates[modality]
        assert other not in candidates.rows[own].tolist() and candidates.rows[own, -1] == -1
        assert candidates.similarities.isfinite().all()
    own = ask_for_pair(twins, modality, 5, hidden=False)
    assert (own.rows == own.entity.unsqueeze(1)).any(dim=1).all()


def test_the_frozen_measure_is_plain_accuracy(pairs: EntityPairs) -> None:
    images, labels = pairs.questions
    rows = [pairs.text[pairs.asks & (pairs.entity == one)].mean(dim=0) for one in range(30)]
    names = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
    expected = (images @ names.T).argmax(dim=1).eq(labels).float().mean() * 100
    assert measure(pairs, None, 5) == pytest.approx(float(expected))


def test_the_best_design_on_held_out_entities_is_chosen_and_told(pairs: EntityPairs) -> None:
    """Names mean nothing to this encoder, so the paper's layer is tried too; the memory tells nearly everything."""
    choice = choose(pairs, k=5)
    assert {one.design for one in choice.candidates} == {"evidence", "copy", "faithful"}
    assert choice.design == "evidence"
    accuracies = [one.accuracy for one in choice.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert choice.frozen + 50 < accuracies[0]
    assert f"evidence {accuracies[0]:.1f}" in choice.reason
    assert f"frozen {choice.frozen:.1f}" in choice.reason
    assert "held-out images of 6 entities)" in choice.reason
    runner_up, frozen = choice.leads
    assert (runner_up.over, frozen.over) == (choice.candidates[1].design, "frozen")
    assert runner_up.by == pytest.approx(accuracies[0] - accuracies[1], abs=1e-4)
    assert frozen.by == pytest.approx(accuracies[0] - choice.frozen, abs=1e-4)
    assert f"ahead of frozen by {frozen.by:.1f} ± {frozen.error:.1f}" in choice.reason


def test_a_choice_and_a_fit_tell_how_far_they_are(pairs: EntityPairs) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    choose(pairs, 5, told=lambda what, done, total: heard.setdefault(what, []).append((done, total)))
    assert {"trying evidence", "trying copy"} <= heard.keys()
    for told in heard.values():
        assert told == sorted(told), "never backwards"
        assert told[-1][0] == told[-1][1], "to the end"
    steps: list[tuple[int, int]] = []
    fit_evidence(pairs, fusion_config("evidence", 128, 5), told=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 6) for done in range(7)]


def test_no_gain_is_said() -> None:
    assert "Nothing beats the frozen encoder" in Choice(50.0, (Candidate("evidence", 50.0),), (10, 2)).reason


def test_the_fitted_evidence_names_fresh_pictures(
    named_memory: Memory, pairs: EntityPairs, fresh_pairs: Pairs, names: Pairs
) -> None:
    fusion: Fusion = fit_evidence(pairs, fusion_config("evidence", 128, 5))
    image, _, classes = fresh_pairs
    queries = names[1].astype(np.float32)
    found = named_memory.search(queries, 5, modality="text")
    parts = (queries, found.values, found.similarities, found.mask, found.keys)
    refined = fusion.refine("text", *map(torch.from_numpy, parts)).numpy()
    frozen = ((image @ names[1].T).argmax(axis=1) == classes).mean()
    assert ((image @ refined.T).argmax(axis=1) == classes).mean() > frozen + 0.7
