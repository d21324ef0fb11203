"""What the names alone, without a memory, say of the images that labels found in it.

Each image belongs to the label that found it, and the frozen encoder compares it with every label. How often it is
wrong says how much a memory could help; how often it would put the label among the less likely half says how many
captions stand beside somebody else's image. Names that an encoder hardly knows are wrong nearly always, and still put
an image's own label among the likelier half: real CLIP with names made so weak that it names 9 % of 600 classes puts 4
labels of 100 among the others (0 of 100 as they are); of mixed-up captions 50.

Names that an encoder cannot read at all, such as codes, rank images by chance, and of them alone nobody could tell
whether the captions are mixed up. But captions say more than a name. Where they are known to name their labels, it is
asked too how often the encoder puts the image's own caption among the less likely half of those that labels found.
Shapes: C labels, U images, D embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Images that are taken for somebody else's beside those that seem so: a few that fit may fit by chance.
_SUSPECTED = 2.0
_HALF_AN_IMAGE = 0.5  # right, and wrong: of few images neither is never


@dataclass(frozen=True)
class NamesAlone:
    """How the frozen encoder ranks the label of each image.

    Attributes:
        odds: that the names are wrong about an image, to that they are right.
        mixed_up: the share of the images that are not their label's, from 0 to 1.
        doubtful: the same with caution, for few images may fit by chance.
    """

    odds: float
    mixed_up: float
    doubtful: float

    @classmethod
    def of(
        cls,
        images: Tensor,
        labels: Tensor,
        texts: Tensor,
        certainty: Tensor | None = None,
        *,
        captions: Tensor | None = None,
        named: Tensor | None = None,
    ) -> "NamesAlone":
        """Judge.

        Args:
            images: (U, D) float32, unit norm, at least one.
            labels: (U,) int64, the label that found each.
            texts: (C, D) float32, unit norm.
            certainty: (U,) at least 0, how far each image is believed to be its label's; alike for all by default.
            captions: (C, D) float32, unit norm, what each label found first, zeros where it found nothing.
            named: (C,) bool, True where that is known to name the label; by default, or without captions, none is.
        """
        count, ahead = len(images), _ahead(images, labels, texts)
        believed = torch.ones_like(images[:, 0]) if certainty is None else certainty * (count / certainty.sum())
        wrong, unlikely = (believed * so for so in (ahead > 0, ahead >= len(texts) / 2))
        seemingly = float(unlikely.sum())
        if captions is not None and named is not None:
            by_captions = believed * (_ahead(images, labels, captions, ties=True) >= len(texts) / 2)
            own = named[labels]
            seemingly = float(unlikely[~own].sum() + torch.minimum(unlikely[own].sum(), by_captions[own].sum()))
        return cls(
            odds=(float(wrong.sum()) + _HALF_AN_IMAGE) / (count - float(wrong.sum()) + _HALF_AN_IMAGE),
            mixed_up=min(2 * seemingly / count, 1.0),
            doubtful=min((2 * seemingly + _SUSPECTED) / (count + _SUSPECTED), 1.0),
        )


def _ahead(images: Tensor, labels: Tensor, texts: Tensor, *, ties: bool = False) -> Tensor:
    """How many texts (U,) seem likelier for each image than its label's, or as likely: equal captions tell nothing."""
    scores = images @ texts.T  # (U, C)
    own = scores.gather(1, labels.unsqueeze(1))
    return (scores >= own).sum(dim=1) - 1 if ties else (scores > own).sum(dim=1)
