"""The images left out of a label set, beside a twin that leaves each out by hand, one label at a time."""

import math

import pytest
import torch
from torch import Tensor

from models.fusion.evidence import EvidenceFusion, quadratic_term
from models.fusion.left_out import SHARPNESS, LeftOut
from tests.models.test_evidence import CLASSES, World, again, fitted, search, world

WEIGHT, HANDICAP = 0.8, 0.02


@pytest.fixture(scope="module")
def side() -> EvidenceFusion:
    text = fitted(world(1.0)).text
    assert isinstance(text, EvidenceFusion)
    return text


def scores_by_hand(
    side: EvidenceFusion, memory: World, names: Tensor, known: Tensor
) -> tuple[list[list[float]], list[int], list[bool]]:
    """Each image that a known label found against all labels; its label; and whether that has other evidence."""
    values, similarities, mask = search(names, memory.text, memory.image)
    attention = side.attend(similarities, mask)
    axis, length = side.centre / side.centre.norm(), float(side.centre.norm())
    rows, labels, supported = [], [], []
    for label in range(len(names)):
        for place in range(values.shape[1]):
            if not known[label] or attention[label, place] <= 0.3 * attention[label].max():
                continue
            image, row = values[label, place], []
            for other in range(len(names)):
                kept = values[other] @ image <= 0.985
                share = float(attention[other][~kept].sum())
                mean = attention[other] @ values[other] - side.centre
                left = attention[other][kept] @ values[other][kept] / max(1 - share, 0.05) - side.centre
                evidence = 0.0 if share > 0.95 else float((left @ side.whitening) @ (image - (image @ axis) * axis))
                bias = (float(quadratic_term(mean[None], mean[None] @ side.whitening)) + HANDICAP) / length
                weight = WEIGHT * float(known[other])
                whole = mean @ side.whitening
                refined = names[other] + weight * (whole - (whole @ axis) * axis - bias * axis)
                score = image @ names[other] + weight * (evidence - bias * float(image @ axis))
                row.append(float(score / refined.norm()))
                if other == label:
                    supported.append(share <= 0.95)
            rows.append(row)
            labels.append(label)
    return rows, labels, supported


def test_the_losses_are_those_of_images_left_out_by_hand(side: EvidenceFusion) -> None:
    memory, _ = again(0.5, 5)
    known = torch.arange(CLASSES) % 5 > 0
    values, similarities, mask = search(memory.names, memory.text, memory.image)
    attention = side.attend(similarities, mask)
    [found] = LeftOut(side, memory.names, values, attention, known.float()).under(WEIGHT, (HANDICAP,))

    rows, labels, supported = scores_by_hand(side, memory, memory.names, known)
    scores, best = torch.tensor(rows), (math.inf, math.inf)
    spread = scores.std(dim=1).mean()
    confidence = [float(one) for one in attention[known][attention[known] > 0.3 * attention[known].amax(1, True)]]
    for factor in SHARPNESS:
        present, hidden = [], []
        for row, label in zip(scores, labels, strict=True):
            without = row.clone()
            image = _image(values, attention, known, len(present))
            without[label] = image @ memory.names[label]
            present.append(float(-torch.log_softmax(factor * row / spread, dim=0)[label]))
            hidden.append(float(-torch.log_softmax(factor * without / spread, dim=0)[label]))
        judges = [one * ok for one, ok in zip(confidence, supported, strict=True)]
        best = min(best, (_mean(present, judges), _mean(hidden, confidence)))
    assert found.present == pytest.approx(best[0], rel=1e-3)
    assert found.hidden == pytest.approx(best[1], rel=1e-3)


def _image(values: Tensor, attention: Tensor, known: Tensor, number: int) -> Tensor:
    """The how-manieth image that stands for a label."""
    chosen = (attention > 0.3 * attention.amax(dim=1, keepdim=True)) & known.unsqueeze(1)
    return values[chosen][number]


def _mean(losses: list[float], weights: list[float]) -> float:
    return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)


def test_a_label_with_one_image_cannot_judge(side: EvidenceFusion) -> None:
    names = torch.nn.functional.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    values = names.flip(0).unsqueeze(1)  # (4, 1, D)
    assert not LeftOut(side, names, values, torch.ones(4, 1), torch.ones(4)).can_judge


def test_a_handicap_makes_absent_labels_likelier_and_present_ones_not(side: EvidenceFusion) -> None:
    memory, _ = again(0.5, 5)
    values, similarities, mask = search(memory.names, memory.text, memory.image)
    known = (torch.arange(CLASSES) % 2).float()
    left_out = LeftOut(side, memory.names, values, side.attend(similarities, mask), known)
    little, more, most = left_out.under(WEIGHT, (0.0, 0.03, 0.06))
    assert little.hidden > more.hidden > most.hidden
    assert most.present > little.present
