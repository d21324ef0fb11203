"""Controls that a learned fusion must beat: the untrained mean, and the same parameters without a memory.

Shapes as in `models.fusion`: B queries, K neighbours, D embedding dim.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion import Fusion, FusionConfig

WEIGHTS = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)


class MeanFusion(nn.Module):
    """norm((1 - weight) * query + weight * norm(mean of the values)); nothing is learned."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries; arguments and result as in `FusionTransformer.forward`."""
        mean = F.normalize((values * mask.unsqueeze(-1)).sum(dim=1), dim=-1)
        return F.normalize((1 - self.weight) * query + self.weight * mean, dim=-1)


class QueryMLP(nn.Module):
    """A residual MLP on the query alone, as large as the faithful layer: the training without the memory."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        last = nn.Linear(6 * embed_dim, embed_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(embed_dim, 6 * embed_dim), nn.GELU(), last)

    def forward(self, query: Tensor, values: Tensor, similarities: Tensor, mask: Tensor) -> Tensor:
        """Refine queries; neighbours are accepted and ignored."""
        return F.normalize(query + self.layers(self.norm(query)), dim=-1)


def mlp_fusion(config: FusionConfig) -> Fusion:
    """A fusion whose two sides are `QueryMLP`, to be trained by the same loop on the same data."""
    return _with_sides(config, lambda: QueryMLP(config.embed_dim))


def tuned_mean_fusion(config: FusionConfig, score: Callable[[Fusion], float]) -> tuple[Fusion, float, float]:
    """The best of all pairs of weights by `score`, which must not see what is tested.

    Returns:
        The fusion, and its image and text weights.
    """
    return max(
        ((_mean(config, image, text), image, text) for image in WEIGHTS for text in WEIGHTS),
        key=lambda candidate: score(candidate[0]),
    )


def _mean(config: FusionConfig, image: float, text: float) -> Fusion:
    sides = iter((MeanFusion(image), MeanFusion(text)))
    return _with_sides(config, lambda: next(sides))


def _with_sides(config: FusionConfig, side: Callable[[], nn.Module]) -> Fusion:
    fusion = Fusion(config)
    fusion.image, fusion.text = side(), side()  # type: ignore[assignment]
    return fusion.eval()
