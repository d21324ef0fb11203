"""How far to trust the memory for one set of labels, measured on the memory itself.

The labels' neighbours are images with an answer: each belongs to the label that found it. Leaving each image out of
its own label's evidence in turn, the labels are told apart by their names alone (weight 0), by the memory alone (a
large weight) and by anything between; the weight under which the images find their labels best is used. Names that
CLIP knows well get a small weight, names that it never met a large one, shuffled captions none. Where too many labels
have nothing in the memory the weight is 0 for all: evidence for some labels only would draw every image to those.
Shapes: C labels, K neighbours a label, U images among them, D embedding dim.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.evidence import EvidenceFusion, quadratic_term
from models.fusion.fusion import Fusion
from models.label_set_words import FEW_UNKNOWN, MANY_UNKNOWN

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0, 16.0)
# Sharpness of the softmax, in units of one over the scores' spread: the best of them is used for each weight.
SHARPNESS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
IMAGE_SHARE = 0.06  # the image side's weight, as a multiple of the root of the text side's
MAX_IMAGES = 512  # more of them steady the choice no further, and cost time
_KNOWN = 0.05  # a label that is less probably held has nothing in the memory
_COPY = 0.985  # images as similar as this are one image; it is memory.DUPLICATE_COSINE, which is out of reach here
_LEAST_ATTENTION = 0.05


@dataclass(frozen=True)
class LabelSetWeights:
    """Weights of the evidence for one set of labels.

    Attributes:
        text, image: for the label texts, and for the images that are asked about them.
        unknown: share of the labels that have nothing in the memory.
    """

    text: float
    image: float
    unknown: float


@torch.inference_mode()
def weigh_label_set(
    fusion: Fusion, texts: Tensor, values: Tensor, similarities: Tensor, mask: Tensor, keys: Tensor
) -> LabelSetWeights | None:
    """Choose the weights for labels that will be told apart from one another.

    Args:
        texts: (C, D) float32, unit norm, one a label.
        values: (C, K, D) float32, unit norm: the images of each label's neighbours.
        similarities: (C, K) of the neighbours' captions to the label.
        mask: (C, K) bool, True for a real neighbour.
        keys: (C, K, D) float32, unit norm: their captions, the most similar first; one a label is enough.

    Returns:
        None for a design that knows no such weights.
    """
    side = fusion.text
    if not isinstance(side, EvidenceFusion):
        return None
    attention = side.attend(similarities, mask)
    signs = side.signs(values, similarities, mask, attention)
    unknown = float((side.held(side.signs_held(texts, keys, signs)) < _KNOWN).float().mean())
    trust = min(max((MANY_UNKNOWN - unknown) / (MANY_UNKNOWN - FEW_UNKNOWN), 0.0), 1.0)
    weight = 0.0
    if trust > 0 and len(texts) > 1:
        weight = trust * _best_weight(side, texts, values, attention, side.presence(signs))
    return LabelSetWeights(weight, IMAGE_SHARE * weight**0.5, unknown)


def _best_weight(side: EvidenceFusion, texts: Tensor, values: Tensor, attention: Tensor, presence: Tensor) -> float:
    """The weight of `WEIGHTS` with the least cross-entropy of the left-out images."""
    images, labels, certainty = _witnesses(values, attention * presence.unsqueeze(1))
    if len(images) < 2:
        return 0.0
    mean, whitened = side.evidence(values, attention)  # (C, D)
    direction = side.direction(mean, whitened)
    from_names = images @ texts.T  # (U, C)
    from_memory = _left_out(side, images, values, attention, mean, whitened)  # (U, C)
    confidence = certainty / certainty.sum()
    losses = []
    for weight in WEIGHTS:
        scores = (from_names + weight * from_memory) / (texts + weight * direction).norm(dim=1)
        scores = scores / scores.std(dim=1).mean().clamp(min=1e-6)
        by_sharpness = [F.cross_entropy(factor * scores, labels, reduction="none") for factor in SHARPNESS]
        losses.append(min(float(loss @ confidence) for loss in by_sharpness))
    return WEIGHTS[losses.index(min(losses))]


def _witnesses(values: Tensor, certainty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images that stand for a label (U, D), the label (U,) of each and how certain it is (U,).

    At most `MAX_IMAGES`, evenly over the labels.
    """
    places = torch.nonzero(certainty > _LEAST_ATTENTION)  # (n, 2) label and neighbour
    if len(places) > MAX_IMAGES:
        places = places[torch.linspace(0, len(places) - 1, MAX_IMAGES, device=places.device).long()]
    labels, neighbours = places.unbind(dim=1)
    return values[labels, neighbours], labels, certainty[labels, neighbours]


def _left_out(
    side: EvidenceFusion, images: Tensor, values: Tensor, attention: Tensor, mean: Tensor, whitened: Tensor
) -> Tensor:
    """The evidence's score (U, C) of each image for each label, without the image itself and its copies."""
    length = side.centre.norm().clamp(min=1e-6)
    axis = side.centre / length
    along = images @ axis  # (U,)
    across = images - along.unsqueeze(1) * axis
    copies = torch.einsum("ud,ckd->uck", images, values) > _COPY
    share: Tensor = torch.einsum("uck,ck->uc", copies.to(attention.dtype), attention)  # of a label's attention
    own = (((images - side.centre) @ side.whitening) * across).sum(dim=1, keepdim=True)  # (U, 1)
    without = (across @ whitened.T - share * own) / (1 - share).clamp(min=0.05)
    without = without.masked_fill(share > 0.95, 0.0)  # the label has no other evidence: it says nothing
    scores: Tensor = without - (along / length).unsqueeze(1) * quadratic_term(mean, whitened)
    return scores
