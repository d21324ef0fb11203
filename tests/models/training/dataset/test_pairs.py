"""Training pairs: who may retrieve whom, and what a batch holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memory import Memory
from models.training import SearchSettings, TrainingPairs


def test_candidates_are_the_exact_neighbours_without_the_pair_and_its_copies(named_memory: Memory) -> None:
    """The slow twin sorts all rows and leaves out the pair itself and every item with its image's bytes."""
    ids = np.array([0, 4, 5, 17, 239])
    found = TrainingPairs.from_memory(named_memory, ids, num_candidates=20)
    hashes = np.array(named_memory.content_hashes())
    for modality in ("image", "text"):
        rows = named_memory.rows(modality)
        for i, own in enumerate(ids):
            similarities = rows.astype(np.float64) @ rows[own]
            similarities[hashes == hashes[own]] = -np.inf
            expected = np.argsort(-similarities, kind="stable")[:20]
            candidates = found.candidates[modality]
            assert candidates.rows[i].tolist() == expected.tolist()
            np.testing.assert_allclose(candidates.similarities[i], similarities[expected], atol=1e-3)


def test_a_memory_with_fewer_rows_than_candidates_is_padded(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(240), num_candidates=300)
    rows = found.candidates["image"].rows
    assert rows.shape == (240, 300)
    assert (rows[0] >= 0).sum() == 239
    assert (rows[4] >= 0).sum() == 238  # without itself and its copy
    assert not (rows == torch.arange(240).unsqueeze(1)).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SearchSettings(exclude_same="source"), "all are of one source"),
        (SearchSettings(near_duplicate=1e-6), "near_duplicate = 1e-06"),
    ],
)
def test_pairs_that_may_retrieve_nothing_are_refused(
    settings: SearchSettings, words: str, make_memory: Any, tmp_path: Path
) -> None:
    dice = np.random.default_rng(1)
    image, text = np.abs(dice.standard_normal((2, 12, 64)))  # all cosines are above 0
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    keys = [str(row) for row in range(12)]
    one_source = make_memory(
        tmp_path / "memory", image, text, keys=keys, captions=keys, sources=[f"all.tar/{key}" for key in keys]
    )
    with pytest.raises(ValueError, match=words):
        TrainingPairs.from_memory(one_source, np.arange(12), settings=settings)
    assert TrainingPairs.from_memory(one_source, np.arange(12)).num_alone == 0


def test_a_batch_pairs_each_side_with_the_other_modality(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(240), num_candidates=8)
    which = torch.tensor([3, 100])
    chosen = torch.tensor([[0, 2], [1, 7]])
    mask = torch.tensor([[True, True], [True, False]])
    for modality, other in (("image", "text"), ("text", "image")):
        batch = found.batch(modality, which, chosen, mask)  # type: ignore[arg-type]
        rows = found.candidates[modality].rows  # type: ignore[index]
        values = torch.from_numpy(named_memory.rows(other))  # type: ignore[arg-type]
        torch.testing.assert_close(batch.query, torch.from_numpy(named_memory.rows(modality))[which])  # type: ignore[arg-type]
        torch.testing.assert_close(batch.values[0, 1], values[rows[3, 2]])
        torch.testing.assert_close(batch.values[1, 0], values[rows[100, 1]])
        assert not batch.values[1, 1].any()
        assert batch.similarities[1, 1] == 0


def test_equal_captions_are_positives(named_memory: Memory) -> None:
    found = TrainingPairs.from_memory(named_memory, np.arange(240), num_candidates=4)
    positives = found.positives(torch.tensor([0, 7, 8, 1]))
    assert positives.tolist() == [
        [True, True, False, True],
        [True, True, False, True],
        [False, False, True, False],
        [True, True, False, True],
    ]


def test_captions_that_differ_in_case_and_spaces_belong_together(make_memory: Any, tmp_path: Path) -> None:
    """As they are one entity, so they are no wrong answers to each other in the loss."""
    rows = np.eye(64)[:4]
    captions = ["A Dog", "a  dog ", "a cat", "A DOG"]
    found = make_memory(tmp_path / "memory", rows, rows, keys=list("abcd"), captions=captions)
    group = TrainingPairs.from_memory(found, np.arange(4)).group
    assert group[0] == group[1] == group[3] != group[2]
