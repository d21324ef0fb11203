"""The training loop: draw neighbours, refine both sides, three-term loss. Reads from top to bottom.

Shapes: B pairs in a batch, M candidates a pair, K neighbours, D embedding dim.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from memory import MODALITIES
from models.fusion import Fusion, FusionConfig
from models.fusion.features import NeighbourFeatures
from models.training.losses import three_term_loss
from models.training.pairs import Batch, TrainingPairs


@dataclass(frozen=True)
class TrainConfig:
    """How to train; see `recipes.py` for complete ones.

    Attributes:
        fusion: what to train.
        epochs: passes over the pairs.
        batch_size: pairs a step; also the number of wrong answers a pair is told from.
        learning_rate: peak of a cosine with `warm_up` of it linear.
        weight_decay: on matrices only.
        neighbour_dropout: share of candidates left out at random each time, as if the memory were smaller.
        random_k: draw the number of neighbours from 1..k, so that any k may be used later.
        miss: share of queries that get neighbours from far down the list only, as if the memory did not know them.
        miss_rank: from which candidate on a miss draws.
        seed: of the weights, the order and all draws.
    """

    fusion: FusionConfig
    epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warm_up: float = 0.05
    neighbour_dropout: float = 0.1
    random_k: float = 0.3
    miss: float = 0.1
    miss_rank: int = 40
    seed: int = 0


@dataclass(frozen=True)
class EpochReport:
    """Progress after an epoch; `validation` is NaN when there are no validation pairs."""

    epoch: int
    epochs: int
    loss: float
    validation: float


def train(
    pairs: TrainingPairs,
    config: TrainConfig,
    validation: TrainingPairs | None = None,
    report: Callable[[EpochReport], None] | None = None,
    device: str = "cpu",
    fusion: Fusion | None = None,
) -> Fusion:
    """Train a fusion on cached pairs.

    Args:
        pairs: with their candidates; see `TrainingPairs`.
        validation: pairs of things that `pairs` does not show; the epoch that does best on them is kept.
        report: called after each epoch.
        device: where the modules and the batches live.
        fusion: what to train, such as a control of the same shape; made from the config by default.

    Returns:
        The fusion, on the CPU, in evaluation mode.

    Raises:
        ValueError: if there are fewer than two pairs.
    """
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} training pairs: a contrastive loss needs at least two")
    torch.manual_seed(config.seed)
    dice = torch.Generator().manual_seed(config.seed)
    fusion = fusion or Fusion(config.fusion)
    _fit_features(fusion, pairs, dice)
    fusion.to(device).train()
    steps_per_epoch = math.ceil(len(pairs) / config.batch_size)
    optimizer, schedule = _optimizer(fusion, config, steps_per_epoch * config.epochs)
    best, best_state = math.inf, copy.deepcopy(fusion.state_dict())

    for epoch in range(config.epochs):
        total = 0.0
        for chosen in _batches(len(pairs), config.batch_size, dice):
            loss = _loss(fusion, pairs, chosen, config, dice, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(fusion.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() / steps_per_epoch
        measured = math.nan if validation is None else validation_loss(fusion, validation, config, device)
        if validation is None or measured < best:
            best, best_state = measured, copy.deepcopy(fusion.state_dict())
        if report is not None:
            report(EpochReport(epoch + 1, config.epochs, total, measured))
    fusion.load_state_dict(best_state)
    return fusion.cpu().eval().requires_grad_(False)


@torch.no_grad()
def validation_loss(fusion: Fusion, pairs: TrainingPairs, config: TrainConfig, device: str = "cpu") -> float:
    """The mean three-term loss over fixed batches, at the k the fusion will be used with and without any draws."""
    fusion.eval()
    fixed = torch.Generator().manual_seed(0)
    losses = []
    for chosen in _batches(len(pairs), config.batch_size, fixed):
        first = torch.arange(config.fusion.k).expand(len(chosen), -1)
        sides = {m: pairs.batch(m, chosen, first, torch.ones_like(first, dtype=torch.bool)) for m in MODALITIES}
        losses.append(float(_three_terms(fusion, sides["image"], sides["text"], pairs.positives(chosen), device)))
    fusion.train()
    return sum(losses) / len(losses)


def draw_neighbours(
    count: int, num_candidates: int, config: TrainConfig, dice: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which candidates each of `count` queries sees this time.

    Returns:
        chosen (B, K) int64 candidate numbers in order of similarity, and mask (B, K) bool.
    """
    k = min(config.fusion.k, num_candidates)
    rank = torch.arange(num_candidates)
    kept = torch.rand(count, num_candidates, generator=dice) >= config.neighbour_dropout
    missed = torch.rand(count, 1, generator=dice) < config.miss
    kept &= ~missed | (rank >= min(config.miss_rank, num_candidates - k))
    chosen = torch.argsort((~kept).byte(), dim=1, stable=True)[:, :k]  # the kept first, in their order
    fewer = torch.randint(1, k + 1, (count, 1), generator=dice)
    all_k = torch.rand(count, 1, generator=dice) >= config.random_k
    mask = kept.gather(1, chosen) & (all_k | (torch.arange(k) < fewer))
    return chosen, mask


def _loss(
    fusion: Fusion,
    pairs: TrainingPairs,
    chosen: Tensor,
    config: TrainConfig,
    dice: torch.Generator,
    device: str,
) -> Tensor:
    sides: list[Batch] = []
    for modality in MODALITIES:
        num_candidates = pairs.candidates[modality].rows.shape[1]
        neighbours, mask = draw_neighbours(len(chosen), num_candidates, config, dice)
        sides.append(pairs.batch(modality, chosen, neighbours, mask))
    return _three_terms(fusion, sides[0], sides[1], pairs.positives(chosen), device)


def _three_terms(fusion: Fusion, image: Batch, text: Batch, positives: Tensor, device: str) -> Tensor:
    image, text = _to(image, device), _to(text, device)
    return three_term_loss(
        image.query,
        text.query,
        fusion.image(image.query, image.values, image.similarities, image.mask),
        fusion.text(text.query, text.values, text.similarities, text.mask),
        scale=fusion.scale,
        positives=positives.to(device),
    )


def _to(batch: Batch, device: str) -> Batch:
    return Batch(*(part.to(device) for part in (batch.query, batch.values, batch.similarities, batch.mask)))


def _fit_features(fusion: Fusion, pairs: TrainingPairs, dice: torch.Generator) -> None:
    """Give the designs that use evidence its mean and spread, from up to 4,096 pairs."""
    for modality in MODALITIES:
        module = fusion.side(modality)
        features = getattr(module, "features", None)
        if not isinstance(features, NeighbourFeatures):
            continue
        sample = torch.randperm(len(pairs), generator=dice)[:4096]
        first = torch.arange(fusion.config.k).expand(len(sample), -1)
        batch = pairs.batch(modality, sample, first, torch.ones_like(first, dtype=torch.bool))
        features.fit(batch.query, batch.values, batch.similarities, batch.mask)


def _batches(count: int, size: int, dice: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(count, generator=dice)
    yield from (part for part in torch.split(order, size) if len(part) > 1)


def _optimizer(
    fusion: Fusion, config: TrainConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    matrices = [p for p in fusion.parameters() if p.ndim >= 2]
    others = [p for p in fusion.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    warm_up = max(1, round(config.warm_up * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
