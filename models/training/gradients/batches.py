"""Batches of training pairs, with draws or without, and their loss. Several processes may share each batch.

Shapes: B pairs in a batch, b of them this process's, M candidates a pair, K neighbours, D embedding dim.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from memory import MODALITIES, Modality
from models.fusion import Fusion
from models.training.config import TrainConfig
from models.training.dataset.draws import MemoryShare, NameNoise, draw_neighbours
from models.training.dataset.pairs import Batch, TrainingPairs
from models.training.gradients.distributed import World
from models.training.gradients.losses import Targets, three_term_loss

_SAMPLE = 4096  # texts that tell how far texts spread


@dataclass(frozen=True)
class Sides:
    """Both sides of this process's share of a batch, the right answers in it, and B."""

    image: Batch
    text: Batch
    targets: Targets
    total: int


@dataclass(frozen=True)
class Batches:
    """Makes the batches of a run.

    Attributes:
        pairs: what to train or validate on.
        config: sizes and draws.
        world: who shares each batch.
        spread: s of `NameNoise`, see `text_spread`.
    """

    pairs: TrainingPairs
    config: TrainConfig
    world: World
    spread: float = 1.0

    @property
    def num_batches(self) -> int:
        """How many `order` gives."""
        return math.ceil((len(self.pairs) - 1) / self.config.batch_size)

    def order(self, dice: torch.Generator) -> Iterator[Tensor]:
        """The pairs of each batch (B,) to train on, once through all at random; a last pair alone is left out.

        All but the last are as large as the recipe says, as the paper trains; that one moves the weights once an epoch.
        """
        order = torch.randperm(len(self.pairs), generator=dice)
        yield from (part for part in order.split(self.config.batch_size) if len(part) > 1)

    def even(self) -> tuple[Tensor, ...]:
        """The pairs of each batch (B,) to validate on: the same ones at each call, in batches of one size, up to one.

        A pair is told from the others of its batch, so a loss is larger in a larger batch: the mean over batches of
        several sizes would be mostly about how many pairs were left for the last.
        """
        order = torch.randperm(len(self.pairs), generator=torch.Generator().manual_seed(0))
        parts = order.tensor_split(math.ceil(len(order) / self.config.batch_size))
        return tuple(part for part in parts if len(part) > 1)

    def draw(self, chosen: Tensor, dice: torch.Generator) -> Sides:
        """A batch to train on: (B,) pairs, with everything the config draws."""
        share = MemoryShare.draw(self.config.memory_share, dice)
        noise = NameNoise.draw(self.config, self.spread, self.pairs.embed_dim, dice)
        part = self.world.share(len(chosen))
        sides: dict[Modality, Batch] = {}
        for modality in MODALITIES:
            hidden = self.pairs.hidden(modality, chosen[part], share)
            drawn = draw_neighbours(len(chosen), self.pairs.num_candidates, self.config, dice, hidden, part)
            sides[modality] = self.pairs.batch(modality, chosen[part], *drawn, noise)
        return self._sides(sides, chosen)

    def plain(self, chosen: Tensor) -> Sides:
        """A batch to validate on: the k nearest, without any draws."""
        own = chosen[self.world.share(len(chosen))]
        return self._sides(
            {modality: plain_side(self.pairs, modality, own, self.config) for modality in MODALITIES}, chosen
        )

    def _sides(self, sides: dict[Modality, Batch], chosen: Tensor) -> Sides:
        targets = Targets.of_groups(self.pairs.group[self.pairs.ids[chosen]], self.world)
        return Sides(sides["image"], sides["text"], targets, len(chosen))


def plain_side(pairs: TrainingPairs, modality: Modality, chosen: Tensor, config: TrainConfig) -> Batch:
    """One side of pairs (b,) with their k nearest candidates."""
    first = torch.arange(min(config.fusion.k, pairs.num_candidates)).expand(len(chosen), -1)
    return pairs.batch(modality, chosen, first, torch.ones_like(first, dtype=torch.bool))


def batch_loss(fusion: Fusion, sides: Sides, device: str, world: World, *, amp: bool = False) -> Tensor:
    """This process's share of the three-term loss; the shares add up to the loss of the whole batch."""
    image, text = sides.image.to(device), sides.text.to(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
        refined_image = fusion.image(image.query, image.values, image.similarities, image.mask)
        refined_text = fusion.text(text.query, text.values, text.similarities, text.mask)
    return three_term_loss(
        image.query,
        text.query,
        refined_image,
        refined_text,
        scale=fusion.scale,
        positives=sides.targets.to(device),
        world=world,
        total=sides.total,
    )


def text_spread(pairs: TrainingPairs, seed: int) -> float:
    """s: how far texts are from their mean, on average, of some of the pairs."""
    dice = torch.Generator().manual_seed(seed)
    rows = pairs.ids[torch.randint(len(pairs), (min(_SAMPLE, len(pairs)),), generator=dice)]
    texts = pairs.rows["text"].take(rows)
    return float((texts - texts.mean(dim=0)).norm(dim=1).mean())
