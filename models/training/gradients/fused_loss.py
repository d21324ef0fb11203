"""The symmetric cross-entropy and its gradient in one go: one B x B matrix, worked on in slices that fit the cache.

Autograd would keep several such matrices for each of the three losses and go over each many times: at B = 4096 as
much time as the multiplications take. The loss is one number, so its gradient is known in the forward pass, up to the
factor that comes back. Torch only. Shapes: B pairs in a batch, b of them this process's, P right answers, D embedding
dim.
"""

from typing import Any

import torch
from torch import Tensor

from models.training.gradients.distributed import World

_SLICE = 128  # rows of logits worked on at a time: 2 MB at B = 4096


class FusedContrastive(torch.autograd.Function):
    """Mean of the image-to-text and the text-to-image cross-entropy with soft targets; this process's share of it.

    Called with image (b, D) float32 of this process, text (B, D) float32 of the batch, scale () on the similarities,
    the three tensors of `losses.Targets`, the world, and whether a gradient is wanted at all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        targets: tuple[Tensor, Tensor, Tensor],
        world: World,
        wants_gradient: bool,
    ) -> Tensor:
        rows, columns, weights = targets
        half = 0.5 / len(text)
        logits = (image * scale) @ text.T  # (b, B)
        of_images, of_texts = _log_sums(logits)
        of_texts = world.logsumexp(of_texts)
        right = (logits[rows, columns] * weights).sum()
        loss = half * (of_images.sum() + of_texts.sum() / world.size - right)
        if not wants_gradient:
            return loss

        # The gradient by the logits, in their place: two softmaxes less the targets.
        for part, log_sum in zip(logits.split(_SLICE), of_images.split(_SLICE), strict=True):
            over_images = (part - of_texts).exp_()
            part.sub_(log_sum.unsqueeze(1)).exp_().add_(over_images)
        logits.index_put_((rows, columns), -weights, accumulate=True)
        by_image = half * (logits @ text) if ctx.needs_input_grad[0] else None
        by_text = half * (logits.T @ image) if ctx.needs_input_grad[1] else None
        side, other = (by_image, image) if by_image is not None else (by_text, text)
        by_scale = torch.zeros_like(scale) if side is None else (side * other).sum()
        # sum of gradient x similarity: the scale's own, from whichever product is there (with neither, nothing trains)
        ctx.gradients = (by_image, by_text, by_scale, scale)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_image, by_text, by_scale, scale = ctx.gradients
        by_logits = gradient * scale
        return (
            None if by_image is None else by_image * by_logits,
            None if by_text is None else by_text * by_logits,
            by_scale * gradient,
            None,
            None,
            None,
        )


def _log_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the sum of exponentials of each row (b,) and of each column (B,)."""
    rows = []
    columns = logits.new_full((logits.shape[1],), -torch.inf)
    for part in logits.split(_SLICE):
        rows.append(part.logsumexp(dim=1))
        columns = torch.logaddexp(columns, part.logsumexp(dim=0))
    return torch.cat(rows) if rows else logits.new_zeros(0), columns
