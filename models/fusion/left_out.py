"""What labels say of the memory's own images when each image, with its copies, is left out of all evidence.

A label that lost one of its few images has fewer than the labels that it is told from, and more noise in the mean of
them; an image that is asked about meets labels that have all of theirs. What grows with that noise, the quadratic term
and the length of the evidence, is therefore rid of what leaving out adds to it: how far images differ from the others
of their label, on average over all labels, times how much more of it a mean of fewer has. Left on, weights come out
several times too small; with both taken from all images, the one that is asked about among them, half as large again as
is best (docs/training.md).

Where the fusion was fitted on these very images, its whitening damps how each differs from the others of its label,
which it cannot do for a new one: of labels with two images each, weights would come out ten times too large. So each
image is left out of the whitening, too (`_as_new`).
Shapes: C labels, K neighbours a label, U images, D embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.fusion.evidence import QUADRATIC, EvidenceFusion

COPY = 0.985  # images as similar as this are one image; it is memory.DUPLICATE_COSINE, which is out of reach here
MOST_OF_ONE = 0.95  # of a label's attention: one photo that has more is all that the label has
_THERE = 1e-3  # of a label's greatest attention: what has less is no neighbour
# Of images that a whitening was fitted on: with less they change it next to nothing, and nobody could say whether they
# did; with more an image was not fitted on, whatever it is counted as.
_LEAST_LEVERAGE, _MOST_LEVERAGE = 0.03, 0.95


@dataclass(frozen=True)
class LeftOut:
    """The parts (U, C) that the scores of images for labels are made of, for any weight of the evidence.

    Attributes:
        from_names: <image, text>.
        from_memory: <image, o~>.
        along_names: <text, o~>.
        squared: |o~| squared.
    """

    from_names: Tensor
    from_memory: Tensor
    along_names: Tensor
    squared: Tensor

    @classmethod
    def of(
        cls,
        side: EvidenceFusion,
        texts: Tensor,
        values: Tensor,
        attention: Tensor,
        images: Tensor,
        labels: Tensor,
        certainty: Tensor,
    ) -> "LeftOut":
        """Leave each image out in turn, of every label that found it or a copy.

        Args:
            side: of the texts; its whitening is symmetric.
            texts: (C, D) float32, unit norm.
            values: (C, K, D) float32, unit norm, the images of each label's neighbours.
            attention: (C, K) as `EvidenceFusion.attend`.
            images: (U, D) float32, unit norm, of `values`.
            labels: (U,) int64, the label that each is a neighbour of.
            certainty: (U,) at least 0: how far each is believed to show its label.
        """
        copies = torch.einsum("ud,ckd->uck", images, values) > COPY
        share: Tensor = torch.einsum("uck,ck->uc", copies.to(attention.dtype), attention)  # goes with the image
        del copies
        left = share <= MOST_OF_ONE  # a label that has nothing else stays as it is, but says nothing of the image
        share = share * left
        kept = 1 / (1 - share)
        every = _photos(values, attention)
        more = (every - share.square()) * kept.square() - every
        own = torch.arange(len(labels), device=labels.device), labels
        believed = certainty * left[own]

        mean, whitened = side.evidence(values, attention)  # (C, D)
        image = images - side.centre
        turned = image @ side.whitening  # (U, D): of an image, what the label's mean is made of
        length, along = side.centre.norm().clamp(min=1e-6), images @ side.axis
        across = images - along.unsqueeze(1) * side.axis

        def without(of_label: Tensor, of_image: Tensor) -> Tensor:
            """What is linear in the evidence: a label's (C,), less the image's part of it (U, C) or (U, 1)."""
            return (of_label - share * of_image) * kept

        def product(of_label: Tensor, crossed: Tensor, of_image: Tensor) -> Tensor:
            """Of the evidence with itself: of labels (C,), of labels and images (U, C), of images (U,) to (U, C)."""
            rest = without(crossed, of_image.unsqueeze(1))
            variance = ((of_image - rest[own]) @ believed).clamp(min=0) / believed.sum().clamp(min=1e-6)
            return without(without(of_label, crossed), rest) - variance * more

        bias = product(_rows(whitened, mean), image @ whitened.T, _rows(turned, image)) * (QUADRATIC / length)
        squared = product(_rows(whitened, whitened), turned @ whitened.T, _rows(turned, turned))
        on_axis = without(whitened @ side.axis, (turned @ side.axis).unsqueeze(1))
        squared += bias.square() - on_axis.square()
        along_names = without(_rows(whitened, texts), turned @ texts.T) - (on_axis + bias) * (texts @ side.axis)
        seen = across @ side.whitening
        if _LEAST_LEVERAGE < float(side.leverage) < 1:
            apart, parts = _apart(values, attention, images, labels)
            seen = seen + _as_new(side, apart, side.one_part * parts, across, believed)
        on_images = without(seen @ mean.T, _rows(seen, image).unsqueeze(1)) * left
        return cls(
            from_names=images @ texts.T,
            from_memory=on_images - along.unsqueeze(1) * bias,
            along_names=along_names,
            squared=torch.maximum(squared, along_names.square()),  # the noise that is taken off is that of most labels
        )

    def scores(self, weight: float) -> Tensor:
        """(U, C): the cosine of each image to each label, refined under a weight."""
        squared_length = 1 + weight * (2 * self.along_names + weight * self.squared)
        return (self.from_names + weight * self.from_memory) / squared_length.clamp(min=1e-6).sqrt()


def _apart(values: Tensor, attention: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How images differ from the mean of their label's (U, D), and how often the square of that leaves the label's
    scatter with the image (U,): n / (n - 1) times of n. Copies are one image, as they are in fitting."""
    there = (attention > _THERE * attention.amax(dim=1, keepdim=True)).to(values.dtype)  # (C, K)
    once = there / torch.einsum("ckj,cj->ck", _same(values), there).clamp(min=1)
    number = once.sum(dim=1)
    means = torch.einsum("ck,ckd->cd", once, values) / number.clamp(min=1).unsqueeze(1)
    others = (number - 1)[labels]
    return images - means[labels], torch.where(others > 0.5, number[labels] / others.clamp(min=0.5), 0.0)


def _as_new(side: EvidenceFusion, apart: Tensor, parts: Tensor, across: Tensor, believed: Tensor) -> Tensor:
    """What whitened images (U, D) lack by the whitening's having seen them.

    Without an image the scatter that was inverted has so many `parts` less of its deviation's square, and the inverse
    of that is known (Sherman and Morrison 1950). How many of the images the whitening saw, the leverage of their
    deviations tells, on average: it is L of what was fitted, and L / (1 - L) of anything else. Those with the least
    count as seen.

    Args:
        side: with its leverage, between 0 and 1.
        apart: (U, D) deviations.
        parts: (U,) as they stand in the whitening.
        across: (U, D) what is whitened.
        believed: (U,) at least 0.
    """
    whitened = apart @ side.whitening
    leverage = parts * _rows(whitened, apart)  # (U,) below 1 if it was fitted
    if not float(believed.sum()) > 0:
        return torch.zeros_like(across)
    usual = float(side.leverage)
    of_new = usual / (1 - usual)
    average = float(leverage @ believed / believed.sum())
    share_seen = min(max((of_new - average) / (of_new - usual), 0.0), 1.0)
    if share_seen == 0:
        return torch.zeros_like(across)
    ranked = leverage[(believed > 0) & (parts > 0)].sort().values
    seen = leverage <= ranked[round(share_seen * (len(ranked) - 1))] if len(ranked) else torch.zeros_like(leverage)
    lacking = seen * parts * _rows(whitened, across) / (1 - leverage.clamp(max=_MOST_LEVERAGE))
    return whitened * lacking.unsqueeze(1)


def _photos(values: Tensor, attention: Tensor) -> Tensor:
    """(C,) times the variance of one photo: that of a label's mean, in which copies are one photo."""
    return torch.einsum("ck,ckj,cj->c", attention, _same(values), attention)


def _same(values: Tensor) -> Tensor:
    """(C, K, K): 1 where two neighbours of a label are one photo."""
    return (torch.einsum("ckd,cjd->ckj", values, values) > COPY).to(values.dtype)


def _rows(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(dim=1)
