"""The contrastive losses of RECO (section 3.3), with more than one right answer allowed. Torch only.

Shapes: B pairs in a batch, D embedding dim.
"""

import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, positives: Tensor) -> Tensor:
    """Symmetric image-text cross-entropy.

    Plain InfoNCE punishes the right answer when two pairs of a batch share a caption; here a row's target is spread
    over all its positives.

    Args:
        image: (B, D) unit norm.
        text: (B, D) unit norm.
        scale: factor on the similarities, the exponential of the logit scale.
        positives: (B, B) bool, symmetric, True where image i and text j belong together; its diagonal is True.
    """
    logits_per_image = scale * image @ text.T  # (B, B)
    target = positives.to(logits_per_image.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    per_image = F.cross_entropy(logits_per_image, target)
    per_text = F.cross_entropy(logits_per_image.T, target)
    return (per_image + per_text) / 2


def three_term_loss(
    image: Tensor,
    text: Tensor,
    refined_image: Tensor,
    refined_text: Tensor,
    *,
    scale: Tensor,
    positives: Tensor,
) -> Tensor:
    """Refined with refined, refined with original, original with refined, at equal weights.

    The two cross terms keep a refined query comparable with a gallery that nobody refined. The fourth term, original
    with original, is constant: both are frozen. All embeddings (B, D), unit norm; other arguments as above.
    """
    return (
        contrastive_loss(refined_image, refined_text, scale, positives)
        + contrastive_loss(refined_image, text, scale, positives)
        + contrastive_loss(image, refined_text, scale, positives)
    )
