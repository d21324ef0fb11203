"""What the names alone, without a memory, say of the images that labels found in it.

Each image belongs to the label that found it, and the frozen encoder compares it with every label. How often it is
wrong says how much a memory could help; how often it would put the label among the less likely half says how many
captions stand beside somebody else's image. Names that an encoder hardly knows are wrong nearly always, and still put
an image's own label among the likelier half: real CLIP with names made so weak that it names 9 % of 600 classes puts 4
labels of 100 among the others (0 of 100 as they are); of mixed-up captions 50.
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
    def of(cls, images: Tensor, labels: Tensor, texts: Tensor, certainty: Tensor | None = None) -> "NamesAlone":
        """Judge.

        Args:
            images: (U, D) float32, unit norm, at least one.
            labels: (U,) int64, the label that found each.
            texts: (C, D) float32, unit norm.
            certainty: (U,) at least 0, how far each image is believed to be its label's; alike for all by default.
        """
        scores = images @ texts.T  # (U, C)
        ahead = (scores > scores.gather(1, labels.unsqueeze(1))).sum(dim=1)  # labels that seem likelier than its own
        count = len(images)
        believed = torch.ones_like(scores[:, 0]) if certainty is None else certainty * (count / certainty.sum())
        wrong, unlikely = (float(believed[so].sum()) for so in (ahead > 0, ahead >= len(texts) / 2))
        return cls(
            odds=(wrong + _HALF_AN_IMAGE) / (count - wrong + _HALF_AN_IMAGE),
            mixed_up=min(2 * unlikely / count, 1.0),
            doubtful=min((2 * unlikely + _SUSPECTED) / (count + _SUSPECTED), 1.0),
        )
