"""What labels say of the memory's own images when each image, with its copies, is left out of all evidence.

A label that lost one of its few images has fewer than the labels that it is told from, and more noise in the mean of
them; an image that is asked about meets labels that have all of theirs. What grows with that noise, the quadratic term
and the length of the evidence, is therefore rid of what leaving out adds to it: how far images differ from the others
of their label, on average over all labels, times how much more of it a mean of fewer has. Left on, weights come out
several times too small; with both taken from all images, the one that is asked about among them, half as large again as
is best (docs/training.md).
Shapes: C labels, K neighbours a label, U images, D embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.fusion.evidence import QUADRATIC, EvidenceFusion

COPY = 0.985  # images as similar as this are one image; it is memory.DUPLICATE_COSINE, which is out of reach here
MOST_OF_ONE = 0.95  # of a label's attention: one photo that has more is all that the label has


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
        on_images = without(across @ whitened.T, _rows(turned, across).unsqueeze(1)) * left
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


def _photos(values: Tensor, attention: Tensor) -> Tensor:
    """(C,) times the variance of one photo: that of a label's mean, in which copies are one photo."""
    same = torch.einsum("ckd,cjd->ckj", values, values) > COPY
    return torch.einsum("ck,ckj,cj->c", attention, same.to(attention.dtype), attention)


def _rows(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(dim=1)
