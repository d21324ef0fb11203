"""What is random about a training batch: which candidates a query sees, how much memory there is, what names mean.

Shapes: B queries of a batch, M candidates each, K neighbours drawn of them, n rows of anything, D embedding dim.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.config import TrainConfig

_NOISES = 1024  # different directions a batch moves names in; a caption has one of them
_EVERYTHING = slice(None)


def draw_neighbours(
    count: int,
    num_candidates: int,
    config: TrainConfig,
    dice: torch.Generator,
    hidden: Tensor | None = None,
    own: slice = _EVERYTHING,
) -> tuple[Tensor, Tensor]:
    """Which candidates each of `count` queries sees this time.

    Args:
        hidden: (b, M) bool of the own queries, True for candidates that this batch's share of the memory lacks.
        own: which of the queries are wanted; the dice are thrown for all, so that processes that share a batch agree.

    Returns:
        chosen (b, K) int64 candidate numbers in order of similarity, and mask (b, K) bool.
    """
    k = min(config.fusion.k, num_candidates)
    rank = torch.arange(num_candidates)
    kept = torch.rand(count, num_candidates, generator=dice)[own] >= config.neighbour_dropout
    missed = torch.rand(count, 1, generator=dice)[own] < config.miss
    kept &= ~missed | (rank >= min(config.miss_rank, num_candidates - k))
    if hidden is not None:
        kept &= ~hidden
    chosen = torch.argsort((~kept).byte(), dim=1, stable=True)[:, :k]  # the kept first, in their order
    fewer = torch.randint(1, k + 1, (count, 1), generator=dice)[own]
    all_k = torch.rand(count, 1, generator=dice)[own] >= config.random_k
    mask = kept.gather(1, chosen) & (all_k | (torch.arange(k) < fewer))
    return chosen, mask


@dataclass(frozen=True)
class MemoryShare:
    """The part of the memory that a batch sees: each row by a lot of its own, the same from both sides."""

    share: float
    salt: int

    @classmethod
    def draw(cls, least: float, dice: torch.Generator) -> "MemoryShare | None":
        """A share from `least` to 1; None for the whole memory, without a throw."""
        if least >= 1:
            return None
        share, salt = torch.rand(2, generator=dice, dtype=torch.float64).tolist()
        return cls(least + (1 - least) * share, int(salt * (1 << 40)))

    def hides(self, rows: Tensor) -> Tensor:
        """Which rows of the memory (...) are not there: bool of the same shape."""
        return lots(rows, self.salt) >= self.share


@dataclass(frozen=True)
class NameNoise:
    """Names that the encoder does not know, simulated: texts of some caption groups are moved together.

        t' = norm(t + sigma * s * g / sqrt(D))       s = mean |t - mean t|       g ~ N(0, I), one a caption group

    A query's text and the same captions in the memory move alike, so only the memory tells what a name means.
    """

    directions: Tensor  # (_NOISES, D), times sigma * s / sqrt(D)
    share: float
    salt: int

    @classmethod
    def draw(cls, config: TrainConfig, spread: float, embed_dim: int, dice: torch.Generator) -> "NameNoise | None":
        """Noise of one batch, its sigma from 0 to `name_noise`; None, without a throw, where there is to be none."""
        if config.name_noise == 0 or config.name_noise_share == 0:
            return None
        share, salt = torch.rand(2, generator=dice, dtype=torch.float64).tolist()
        sigma = config.name_noise * share
        directions = torch.randn(_NOISES, embed_dim, generator=dice) * (sigma * spread / embed_dim**0.5)
        return cls(directions, config.name_noise_share, int(salt * (1 << 40)))

    def move(self, texts: Tensor, group: Tensor) -> Tensor:
        """Move texts (n, D), unit norm, in place; `group` (n,) numbers their captions."""
        moved = (lots(group, self.salt) < self.share).nonzero().squeeze(1)
        which = (lots(group[moved], self.salt + 1) * _NOISES).long()
        shifted = F.normalize(texts[moved] + self.directions[which].to(texts.device), dim=-1)
        return texts.index_copy_(0, moved.to(texts.device), shifted)


def lots(numbers: Tensor, salt: int) -> Tensor:
    """A number in [0, 1) for each of some integers (...), equal for equal ones and a salt, else as if at random."""
    mixed = (numbers.long() + salt) * -7046029254386353131  # odd, the golden ratio of 2**64; overflow is wanted
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    return ((mixed ^ (mixed >> 32)) & 0xFFFFFF).float() / (1 << 24)
