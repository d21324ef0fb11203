"""The contrastive losses of RECO (section 3.3), with more than one right answer allowed. Torch only.

Shapes: B pairs in a batch, b of them this process's (all, unless several share the batch), P right answers, D
embedding dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.training.dataset.matching import matching
from models.training.gradients.distributed import ALONE, World
from models.training.gradients.fused_loss import FusedContrastive


@dataclass(frozen=True)
class Targets:
    """The right answers of a batch, one by one: image `rows` (P,) of this process, text `columns` (P,) of the batch,
    and the `weights` (P,) they have in both directions together."""

    rows: Tensor
    columns: Tensor
    weights: Tensor

    @classmethod
    def of_matrix(cls, positives: Tensor) -> "Targets":
        """From (B, B) bool, symmetric, True where image i and text j belong together; its diagonal is True."""
        rows, columns = positives.nonzero(as_tuple=True)
        weights = 1 / positives.sum(dim=1)[rows] + 1 / positives.sum(dim=0)[columns]
        return cls(rows, columns, weights)

    @classmethod
    def of_groups(cls, group: Tensor, world: World) -> "Targets":
        """From (B,) numbers of all pairs of the batch: pairs with equal numbers belong together."""
        own = group[world.share(len(group))]
        rows, columns = matching(own, group)
        _, place, counts = group.unique(return_inverse=True, return_counts=True)
        return cls(rows, columns, 2 / counts[place[columns]])

    def to(self, device: str) -> "Targets":
        """On another device."""
        return Targets(self.rows.to(device), self.columns.to(device), self.weights.to(device))


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, positives: Tensor | Targets, world: World | None = None
) -> Tensor:
    """Symmetric image-text cross-entropy.

    Plain InfoNCE punishes the right answer when two pairs of a batch share a caption; here a row's target is spread
    over all its positives.

    Args:
        image: (b, D) unit norm, of this process.
        text: (B, D) unit norm, of the whole batch.
        scale: factor on the similarities, the exponential of the logit scale.
        positives: the targets, or (B, B) bool as `Targets.of_matrix` takes it.

    Returns:
        This process's share of the loss: the shares add up to the loss of the batch.
    """
    targets = positives if isinstance(positives, Targets) else Targets.of_matrix(positives)
    with torch.autocast(image.device.type, enabled=False):  # bfloat16 has steps of 0.5 at a logit of 100
        loss: Tensor = FusedContrastive.apply(
            image.float(),
            text.float(),
            scale,
            (targets.rows, targets.columns, targets.weights),
            world or ALONE,
            torch.is_grad_enabled(),
        )
    return loss


def three_term_loss(
    image: Tensor,
    text: Tensor,
    refined_image: Tensor,
    refined_text: Tensor,
    *,
    scale: Tensor,
    positives: Tensor | Targets,
    world: World | None = None,
    total: int | None = None,
) -> Tensor:
    """Refined with refined, refined with original, original with refined, at equal weights.

    The two cross terms keep a refined query comparable with a gallery that nobody refined. The fourth term, original
    with original, is constant: both are frozen.

    Args:
        image, text, refined_image, refined_text: (b, D) unit norm, of this process.
        scale, positives: as in `contrastive_loss`.
        total: B; b by default.
    """
    world = world or ALONE
    targets = positives if isinstance(positives, Targets) else Targets.of_matrix(positives)
    total = len(image) if total is None else total
    all_text, all_refined = world.gather(text.float(), total), world.gather(refined_text.float(), total)
    return (
        contrastive_loss(refined_image, all_refined, scale, targets, world)
        + contrastive_loss(refined_image, all_text, scale, targets, world)
        + contrastive_loss(image, all_refined, scale, targets, world)
    )
