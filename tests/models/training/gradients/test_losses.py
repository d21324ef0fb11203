"""The losses, judged by a slow twin and by what each term is for."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.gradients.losses import contrastive_loss, three_term_loss


def unit(batch: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_contrastive(image: Tensor, text: Tensor, scale: float, positives: list[list[int]]) -> float:
    """Both directions, one row at a time: minus the mean log-probability of the right answers."""
    total = 0.0
    for queries, keys in ((image, text), (text, image)):
        for row, right in enumerate(positives):
            logits = [scale * float(queries[row] @ key) for key in keys]
            log_sum = math.log(sum(math.exp(logit) for logit in logits))
            total += -sum(logits[column] - log_sum for column in right) / len(right) / len(positives)
    return total / 2


def test_contrastive_loss_equals_the_slow_twin_with_shared_captions() -> None:
    image, text = unit(5, 8, 0), unit(5, 8, 1)
    groups = torch.tensor([0, 1, 0, 2, 1])
    positives = groups.unsqueeze(0) == groups.unsqueeze(1)
    right = [[int(j) for j in row.nonzero()] for row in positives]
    found = contrastive_loss(image, text, torch.tensor(7.0), positives)
    assert math.isclose(float(found), slow_contrastive(image, text, 7.0, right), rel_tol=1e-5)


def test_the_three_terms_are_the_papers() -> None:
    image, text, refined_image, refined_text = (unit(6, 16, seed) for seed in range(4))
    positives = torch.eye(6, dtype=torch.bool)
    scale = torch.tensor(10.0)
    whole = three_term_loss(image, text, refined_image, refined_text, scale=scale, positives=positives)
    expected = sum(
        contrastive_loss(one, other, scale, positives)
        for one, other in ((refined_image, refined_text), (refined_image, text), (image, refined_text))
    )
    torch.testing.assert_close(whole, expected)
