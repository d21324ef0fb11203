"""What a label set's own neighbours say about a weight: images with a known answer, each left out in turn.

Every image that a label found belongs to that label. It is asked for its label without itself in the evidence: once as
it is, and once as if its label had nothing in the memory at all. The first tells what a weight gains, the second what
it costs the labels that the memory does not hold.
Shapes: C labels, K neighbours a label, U images among them, D embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.fusion.evidence import EvidenceFusion, quadratic_term

# Sharpness of the softmax, in units of one over the scores' spread: the best of them is used for each weight.
SHARPNESS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
MAX_IMAGES = 512  # more of them steady the choice no further, and cost time
_COPY = 0.985  # images as similar as this are one image
_LEAST_ATTENTION = 0.3  # of the label's best image: what is less may be of another label
_ALL_OF_IT = 0.95  # of a label's attention: without such an image the label has no other evidence


@dataclass(frozen=True)
class Losses:
    """Cross-entropies of the images: their label as it is, and with nothing of it in the memory."""

    present: float
    hidden: float


class LeftOut:
    """The images of a label set, ready to be asked under any weight."""

    def __init__(
        self, side: EvidenceFusion, texts: Tensor, values: Tensor, attention: Tensor, certainty: Tensor
    ) -> None:
        """Find the images, and score them once.

        Args:
            side: the text side of the fusion.
            texts: (C, D) float32, unit norm.
            values: (C, K, D) the images that the labels found.
            attention: (C, K) as the side gives it.
            certainty: (C,) that a label is in the memory; 0 for labels that get no evidence.
        """
        self._known = (certainty > 0).float()
        images, labels, self._confidence = _witnesses(values, attention * certainty.unsqueeze(1))
        self._rows, self._labels = torch.arange(len(images), device=images.device), labels
        mean, whitened = side.evidence(values, attention)  # (C, D)
        self._length = side.centre.norm().clamp(min=1e-6)
        self._axis = side.centre / self._length
        self._quadratic = quadratic_term(mean, whitened)  # (C,)
        self._across = whitened - torch.outer(whitened @ self._axis, self._axis)  # (C, D)
        self._texts, self._from_names = texts, images @ texts.T  # (U, C)
        self._along = images @ self._axis  # (U,)
        self._from_memory, share = _without_itself(side, images, values, attention, whitened)  # (U, C)
        self._judges = self._confidence * (share[self._rows, labels] <= _ALL_OF_IT)

    @property
    def num_labels(self) -> int:
        """C."""
        return len(self._texts)

    @property
    def spread(self) -> float:
        """How far the names' similarities to an image differ, on average."""
        return float(self._from_names.std(dim=1).mean())

    @property
    def can_judge(self) -> bool:
        """Whether at least two images have other evidence for their label beside them."""
        return int((self._judges > 0).sum()) > 1

    def under(self, weight: float, handicaps: tuple[float, ...]) -> list[Losses]:
        """The losses under a weight with each of some handicaps; the sharpness is that which suits the first."""
        moved = self._texts + weight * self._known.unsqueeze(1) * self._across  # (C, D)
        lengths, leaning = moved.square().sum(dim=1), moved @ self._axis
        found = list[Losses]()
        sharpness: tuple[float, ...] = SHARPNESS
        for handicap in handicaps:
            lean = self._known * (self._quadratic + handicap) * weight / self._length  # (C,)
            norm = (lengths - 2 * lean * leaning + lean.square()).sqrt()
            scores = self._from_names + weight * self._known * self._from_memory - torch.outer(self._along, lean)
            scores = scores / norm
            spread = scores.std(dim=1).mean().clamp(min=1e-6)
            hidden = self._from_names[self._rows, self._labels] / spread  # (U,)
            losses = {factor: self._losses(factor * scores / spread, factor * hidden) for factor in sharpness}
            best = min(losses, key=lambda factor: losses[factor].present)
            sharpness = (best,)
            found.append(losses[best])
        return found

    def _losses(self, logits: Tensor, hidden: Tensor) -> Losses:
        """From logits (U, C), and the logits (U,) of the own labels without any evidence."""
        own, whole = logits[self._rows, self._labels], logits.logsumexp(dim=1)
        others = whole + torch.log1p(-(own - whole).exp().clamp(max=1 - 1e-6))
        present = ((whole - own) * self._judges).sum() / self._judges.sum()
        absent = ((torch.logaddexp(others, hidden) - hidden) * self._confidence).sum() / self._confidence.sum()
        return Losses(float(present), float(absent))


def _witnesses(values: Tensor, certainty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images that stand for a label (U, D), the label (U,) of each and how certain it is (U,).

    At most `MAX_IMAGES`, evenly over the labels.
    """
    places = torch.nonzero(certainty > _LEAST_ATTENTION * certainty.amax(dim=1, keepdim=True))  # (n, 2)
    if len(places) > MAX_IMAGES:
        places = places[torch.linspace(0, len(places) - 1, MAX_IMAGES, device=places.device).long()]
    labels, neighbours = places.unbind(dim=1)
    return values[labels, neighbours], labels, certainty[labels, neighbours]


def _without_itself(
    side: EvidenceFusion, images: Tensor, values: Tensor, attention: Tensor, whitened: Tensor
) -> tuple[Tensor, Tensor]:
    """The evidence's score of each image for each label without the image and its copies, across the centre: (U, C).

    And the share (U, C) of a label's attention that these had.
    """
    axis = side.centre / side.centre.norm().clamp(min=1e-6)
    across = images - torch.outer(images @ axis, axis)
    copies = torch.einsum("ud,ckd->uck", images, values) > _COPY
    share: Tensor = torch.einsum("uck,ck->uc", copies.to(attention.dtype), attention)
    own = (((images - side.centre) @ side.whitening) * across).sum(dim=1, keepdim=True)  # (U, 1)
    without = (across @ whitened.T - share * own) / (1 - share).clamp(min=0.05)
    return without.masked_fill(share > _ALL_OF_IT, 0.0), share
