"""Fine-tuning the whole encoder, both towers, by the contrastive loss: what RECO spares you, to compare with.

Imports torch and the parts beside it. Shapes: B pairs in a batch, S image size in px, L tokens, D embedding dim.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.towers.cut_text import can_cut, encode_text_cut
from models.training.finetuning.pictures import CaptionedPictures
from models.training.gradients.losses import contrastive_loss

_LARGE = 20_000_000  # parameters
_SMALLEST_CROP = 0.9  # of a side, as in CLIP's own training


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes:
        epochs: passes over the pairs.
        batch_size: pairs a step at most; also the number of captions that a picture is told from.
        learning_rate: peak of a cosine with `warm_up` of it linear; None takes `default_learning_rate`.
        weight_decay: on matrices only.
        bfloat16: compute the towers in bfloat16 where torch's autocast does; the loss and the weights stay float32.
        seed: of the order and the crops.
    """

    epochs: int = 4
    batch_size: int = 256
    learning_rate: float | None = None
    weight_decay: float = 0.1
    warm_up: float = 0.1
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is a number above 0, not {self.learning_rate}: a run would learn nothing")


@dataclass(frozen=True)
class FinetuneReport:
    """Progress: `pairs` of `total` were learned from; `validation` are the losses so far, from before the first."""

    pairs: int
    total: int
    loss: float
    validation: tuple[float, ...]


def default_learning_rate(model: torch.nn.Module) -> float:
    """By size: of small models as measured on the demo's validation species, of others as CLIPs are usually tuned."""
    return 1e-5 if sum(p.numel() for p in model.parameters()) > _LARGE else 3e-4


def finetune(
    model: torch.nn.Module,
    pairs: CaptionedPictures,
    validation: CaptionedPictures,
    config: FinetuneConfig,
    report: Callable[[FinetuneReport], None] | None = None,
    device: str = "cpu",
) -> tuple[float, ...]:
    """Train `model` in place: it ends with the weights of the epoch that did best on `validation`, on the CPU.

    Args:
        model: an open_clip model in float32, as `models.sources.opening.open_model` gives it.
        report: called after each step and each epoch.

    Returns:
        The validation losses: before training, then after each epoch. If the first is the lowest, no epoch helped,
        and the weights are those of the best epoch all the same.

    Raises:
        ValueError: fewer than two pairs in a part, or a loss that is not finite.
    """
    for part, name in ((pairs, "training"), (validation, "validation")):
        if len(part) < 2:
            raise ValueError(f"{len(part)} {name} pairs: a contrastive loss needs at least two")
    torch.manual_seed(config.seed)  # of dropout, where an architecture has it
    dice = torch.Generator().manual_seed(config.seed)
    model.to(device, memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]
    optimizer, schedule = _optimizer(model, config, pairs.num_batches(config.batch_size) * config.epochs)
    losses = [validation_loss(model, validation, config, device)]
    best_state: dict[str, Tensor] = {}
    done, total = 0, len(pairs) * config.epochs
    for _ in range(config.epochs):
        model.train()
        for packed, tokens, positives in pairs.batches(config.batch_size, dice):
            pixels = cropped(pairs.codec.unpack(packed.to(device)), dice)
            loss = _loss(model, pixels, tokens.to(device), positives.to(device), config)
            _step(model, loss, optimizer)
            schedule.step()
            done += len(tokens)
            if report is not None:
                report(FinetuneReport(done, total, loss.item(), tuple(losses)))
        losses.append(validation_loss(model, validation, config, device))
        if losses[-1] == min(losses[1:]):
            best_state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    model.cpu().eval().requires_grad_(False)
    return tuple(losses)


@torch.no_grad()
def validation_loss(
    model: torch.nn.Module, pairs: CaptionedPictures, config: FinetuneConfig, device: str = "cpu"
) -> float:
    """The mean contrastive loss over fixed batches, whole pictures.

    Raises:
        ValueError: it is not finite.
    """
    model.eval()
    total = 0.0
    for packed, tokens, positives in pairs.batches(config.batch_size, torch.Generator().manual_seed(0)):
        pixels = pairs.codec.unpack(packed.to(device))
        loss = _loss(model, pixels, tokens.to(device), positives.to(device), config)
        total += loss.item() * len(tokens) / len(pairs)
    _check_finite(total)
    return total


def cropped(pixels: Tensor, dice: torch.Generator) -> Tensor:
    """A random square of each picture, 0.9 to 1 of its side, back at full size: (B, 3, S, S)."""
    scale = 1 - (1 - _SMALLEST_CROP) * torch.rand(len(pixels), 1, generator=dice)
    shift = (1 - scale) * (2 * torch.rand(len(pixels), 2, generator=dice) - 1)
    windows = torch.cat([torch.eye(2).expand(len(pixels), 2, 2) * scale.unsqueeze(2), shift.unsqueeze(2)], dim=2)
    grid = F.affine_grid(windows.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _loss(model: Any, pixels: Tensor, tokens: Tensor, positives: Tensor, config: FinetuneConfig) -> Tensor:
    encode_text = partial(encode_text_cut, model) if can_cut(model) else model.encode_text
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=config.bfloat16):
        image = model.encode_image(pixels.contiguous(memory_format=torch.channels_last), normalize=False)  # (B, D)
        text = encode_text(tokens, normalize=False)  # (B, D)
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
    return contrastive_loss(image, text, model.logit_scale.exp(), positives)


def _step(model: Any, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    _check_finite(loss.item())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))


def _check_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise ValueError("the loss is no longer finite: lower the learning rate")


def _optimizer(
    model: torch.nn.Module, config: FinetuneConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    rate = default_learning_rate(model) if config.learning_rate is None else config.learning_rate
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )
    warm_up = max(1, round(config.warm_up * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
