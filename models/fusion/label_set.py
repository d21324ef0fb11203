"""How far to trust the memory for one set of labels, measured on the memory itself.

The labels' neighbours are images with an answer (`left_out.py`): under weights from 0 (names alone) to a large one (the
memory alone) they are asked for their label, and the weight under which they find it best is used. Names that CLIP
knows well get a small weight, names that it never met a large one, shuffled captions none.

Labels with nothing in the memory get no evidence. Evidence for the others would draw every image to those, so they
start with a handicap, chosen with the weight: what the present labels gain must not be lost by absent ones.
Shapes: C labels, K neighbours a label, D embedding dim.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models.fusion.evidence import EvidenceFusion
from models.fusion.fusion import Fusion
from models.fusion.left_out import LeftOut, Losses

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0, 16.0)
# In units of how far the names' similarities to an image differ.
HANDICAPS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
IMAGE_SHARE = 0.06  # the image side's weight, as a multiple of the root of the text side's
_KNOWN, _SURELY_KNOWN = 0.03, 0.3  # presence: below the one nothing is in the memory, above the other something is
_UNCLEAR, _CLEAR = 0.3, 0.5  # unknown labels as a share of those not surely known: no weight below, all above
# Shares of unknown labels: below the one all get evidence, from the other on absent labels count in full.
_FEW_UNKNOWN, _MANY_UNKNOWN = 0.08, 0.15
_NO_PRESENCE, _SOME_PRESENCE = 0.10, 0.15  # mean presence of the labels: below the one no weight, above the other all
_IMAGE_UNKNOWN = 0.15  # share of unknown labels from which on images are left as they are
_ABSENT_GAIN = 0.25  # what absent labels must gain in likelihood, as a share of what present ones do
_BETTER_THAN_CHANCE = 0.9  # of the loss by chance
_WORTH = 0.006  # nats: of weights that are as near to the best as this, the smallest is taken


@dataclass(frozen=True)
class LabelSetWeights:
    """Weights of the evidence for one set of labels.

    Attributes:
        text, image: for the label texts, and for the images that are asked about them.
        unknown: share of the labels that have nothing in the memory.
        handicap: of the labels that have, against those that have not; `EvidenceFusion.forward` takes it.
        labels: (C,) float32, the weight of each label text: `text`, or 0 where the memory has nothing.
    """

    text: float
    image: float
    unknown: float
    handicap: float = 0.0
    labels: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False, repr=False)


@torch.inference_mode()
def weigh_label_set(
    fusion: Fusion, texts: Tensor, values: Tensor, similarities: Tensor, mask: Tensor
) -> LabelSetWeights | None:
    """Choose the weights for labels that will be told apart from one another.

    Args:
        texts: (C, D) float32, unit norm, one a label.
        values: (C, K, D) float32, unit norm: the images of each label's neighbours.
        similarities: (C, K) of the neighbours' captions to the label.
        mask: (C, K) bool, True for a real neighbour.

    Returns:
        None for a design that knows no such weights.
    """
    side = fusion.text
    if not isinstance(side, EvidenceFusion):
        return None
    attention = side.attend(similarities, mask)
    presence = side.presence(side.signs(values, similarities, mask, attention))
    known = presence >= _KNOWN
    unknown = 1 - float(known.float().mean())
    trust = _between(float(presence.mean()), _NO_PRESENCE, _SOME_PRESENCE)
    if unknown <= _FEW_UNKNOWN:
        known = torch.ones_like(known)
    else:
        trust *= _between(unknown / float((presence < _SURELY_KNOWN).float().mean()), _UNCLEAR, _CLEAR)
    weight = handicap = 0.0
    if trust > 0 and len(texts) > 1:
        left_out = LeftOut(side, texts, values, attention, presence * known)
        weight, handicap = _best(left_out, unknown)
    weight *= trust
    image = IMAGE_SHARE * weight**0.5 * (1 - _between(unknown, 0.0, _IMAGE_UNKNOWN))
    return LabelSetWeights(weight, image, unknown, handicap, weight * known.float())


def _best(left_out: LeftOut, unknown: float) -> tuple[float, float]:
    """A weight and a handicap with next to the least loss, and of these the smallest weight."""
    if not left_out.can_judge:
        return 0.0, 0.0
    [plain] = left_out.under(0.0, (0.0,))
    # With shuffled captions the names do worse than chance, and so every weight does better: that is no merit.
    plain = replace(plain, present=min(plain.present, _BETTER_THAN_CHANCE * math.log(left_out.num_labels)))
    care = _between(unknown, _FEW_UNKNOWN, _MANY_UNKNOWN)
    losses = {(0.0, 0.0): 0.0}
    handicaps = tuple(factor * left_out.spread for factor in HANDICAPS) if care > 0 else (0.0,)
    for weight in WEIGHTS[1:]:
        for handicap, found in zip(handicaps, left_out.under(weight, handicaps), strict=True):
            losses[weight, handicap] = _loss(found, plain, care)
    near = [point for point, loss in losses.items() if loss <= min(losses.values()) + _WORTH]
    return min(near, key=lambda point: (point[0], losses[point]))


def _loss(found: Losses, plain: Losses, care: float) -> float:
    """Against the names alone: what present labels lose, or, as far as `care` says, the worse off of both."""
    present = found.present - plain.present
    absent = (found.hidden - plain.hidden) / _ABSENT_GAIN
    return (1 - care) * present + care * max(present, absent)


def _between(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, a line between them."""
    return min(max((value - low) / (high - low), 0.0), 1.0)
