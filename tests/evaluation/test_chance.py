"""What an answer at random gets in a retrieval, beside drawing one many times."""

import numpy as np
import pytest

from evaluation.retrieval import RetrievalTask, recall_by_chance
from memory import Modality


@pytest.mark.parametrize("at", [1, 5, 10])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_it_is_what_random_orders_get(modality: Modality, at: int) -> None:
    pair = np.array([0, 0, 0, 1, 2, 2, 4])  # image 3 has no text, and asks for none
    task = RetrievalTask(np.eye(5, 8, dtype=np.float32), np.eye(7, 8, dtype=np.float32), pair)
    relevant = task.relevant(modality, task.queries(modality))
    rng = np.random.default_rng(0)
    orders = rng.random((4000, *relevant.shape)).argsort(axis=2)[:, :, :at]
    drawn = np.take_along_axis(np.broadcast_to(relevant, (4000, *relevant.shape)), orders, axis=2).any(axis=2)
    assert recall_by_chance(task, modality, at) == pytest.approx(drawn.mean() * 100, abs=1.5)
