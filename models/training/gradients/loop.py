"""The training loop: draw neighbours, refine both sides, three-term loss. Reads from top to bottom.

Shapes: B pairs in a batch, K neighbours, D embedding dim.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from memory import MODALITIES
from models.fusion import Fusion
from models.fusion.features import NeighbourFeatures
from models.training.config import TrainConfig
from models.training.dataset.draws import draw_neighbours
from models.training.dataset.pairs import TrainingPairs
from models.training.gradients.batches import Batches, batch_loss, plain_side, text_spread
from models.training.gradients.distributed import ALONE, World
from models.training.gradients.optimizer import CosineAdamW
from models.training.gradients.resume import EpochReport, TrainState, load_state, save_state

__all__ = ["EpochReport", "Surroundings", "TrainConfig", "draw_neighbours", "train", "validation_loss"]


@dataclass(frozen=True)
class Surroundings:
    """What a run touches besides its numbers.

    Attributes:
        device: where the modules and the batches live.
        world: the processes that share each batch.
        state: file from which a broken-off run goes on, and where each epoch leaves the next one; None for neither.
        progress: called after each step with the pairs done, of this run and those it takes up, and the pairs in all.
    """

    device: str = "cpu"
    world: World = ALONE
    state: Path | None = None
    progress: Callable[[int, int], None] | None = None


def train(
    pairs: TrainingPairs,
    config: TrainConfig,
    validation: TrainingPairs | None = None,
    report: Callable[[EpochReport], None] | None = None,
    surroundings: Surroundings | None = None,
    *,
    fusion: Fusion | None = None,
) -> Fusion:
    """Train a fusion on cached pairs.

    Args:
        pairs: with their candidates; see `TrainingPairs`.
        validation: pairs of things that `pairs` does not show; the epoch that does best on them is kept.
        report: called after each epoch, and at once for the epochs that a broken-off run had done.
        surroundings: device, processes, and where the run may be taken up; the CPU and nothing else by default.
        fusion: what to train, such as a control of the same shape; made from the config by default.

    Returns:
        The fusion, on the CPU, in evaluation mode.

    Raises:
        ValueError: fewer than two pairs, a loss that is no number any more, or a state that cannot be read.
    """
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} training pairs: a contrastive loss needs at least two")
    around = surroundings or Surroundings()
    torch.manual_seed(config.seed)
    dice = torch.Generator().manual_seed(config.seed)
    fusion = fusion or Fusion(config.fusion)
    _fit_features(fusion, pairs, config, dice)
    fusion.to(around.device).train()
    batches = Batches(pairs, config, around.world, text_spread(pairs, config.seed) if config.name_noise else 1.0)
    optimizer = CosineAdamW(fusion, config, batches.num_batches * config.epochs)
    state = _take_up(fusion, optimizer, dice, around) or TrainState()
    best = state.part("best") or copy.deepcopy(fusion.state_dict())
    report = report or _say_nothing
    for one in state.reports:
        report(one)

    while len(state.reports) < config.epochs and not 0 < config.patience <= state.waited:
        loss = _epoch(fusion, optimizer, batches, dice, len(state.reports), around)
        measured = math.nan
        if validation is not None:
            measured = _finite(validation_loss(fusion, validation, config, around), len(state.reports), config)
        if validation is None or measured < state.best:
            state.best, state.waited, best = measured, 0, copy.deepcopy(fusion.state_dict())
        else:
            state.waited += 1
        state.reports.append(EpochReport(len(state.reports) + 1, config.epochs, loss, measured))
        state.steps = optimizer.step_number
        _leave(fusion, best, optimizer, dice, state, around)
        report(state.reports[-1])
    fusion.load_state_dict(best)
    return fusion.cpu().eval().requires_grad_(False)


def _say_nothing(_: EpochReport) -> None:
    """Where nobody listens."""


@torch.no_grad()
def validation_loss(
    fusion: Fusion, pairs: TrainingPairs, config: TrainConfig, surroundings: Surroundings | None = None
) -> float:
    """The mean three-term loss of a pair, in fixed batches, at the k the fusion will be used with and without draws."""
    around = surroundings or Surroundings()
    fusion.eval()
    batches = Batches(pairs, config, around.world)
    parts = batches.even()
    losses = [batch_loss(fusion, batches.plain(one), around.device, around.world, amp=config.amp) for one in parts]
    fusion.train()
    return _mean_of_pairs(losses, [len(one) for one in parts], around.world)


def _epoch(
    fusion: Fusion,
    optimizer: CosineAdamW,
    batches: Batches,
    dice: torch.Generator,
    epoch: int,
    around: Surroundings,
) -> float:
    """Go through the pairs once; the mean loss."""
    losses: list[torch.Tensor] = []  # read at the end: a look at each would make a GPU wait
    counts: list[int] = []
    done, config = epoch * len(batches.pairs), batches.config
    for chosen in batches.order(dice):
        loss = batch_loss(fusion, batches.draw(chosen, dice), around.device, around.world, amp=config.amp)
        loss.backward()
        around.world.add_up_gradients(fusion.parameters())
        optimizer.step()
        losses.append(loss.detach())
        counts.append(len(chosen))
        done += len(chosen)
        if around.progress is not None:
            around.progress(done, config.epochs * len(batches.pairs))
    return _finite(_mean_of_pairs(losses, counts, around.world), epoch, config)


def _mean_of_pairs(losses: list[torch.Tensor], counts: list[int], world: World) -> float:
    """The mean over all pairs of this process's shares of the batches' losses; `counts` are the pairs of each batch."""
    by_batch = world.add_up(torch.stack(losses)).cpu().double()
    weights = torch.tensor(counts, dtype=torch.float64)
    return float(by_batch @ weights / weights.sum())


def _finite(loss: float, epoch: int, config: TrainConfig) -> float:
    """The loss of an epoch, from 0, if it is one."""
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} in epoch {epoch + 1}: take a lower learning rate than {config.learning_rate:g}"
        )
    return loss


def _fit_features(fusion: Fusion, pairs: TrainingPairs, config: TrainConfig, dice: torch.Generator) -> None:
    """Give the designs that use evidence its mean and spread, from up to 4,096 pairs."""
    for modality in MODALITIES:
        features = getattr(fusion.side(modality), "features", None)
        if isinstance(features, NeighbourFeatures):
            sample = torch.randperm(len(pairs), generator=dice)[:4096]
            batch = plain_side(pairs, modality, sample, config).to("cpu")
            features.fit(batch.query, batch.values, batch.similarities, batch.mask)


def _take_up(fusion: Fusion, optimizer: CosineAdamW, dice: torch.Generator, around: Surroundings) -> TrainState | None:
    """Put everything back to where a broken-off run left it; None if there is none."""
    state = None if around.state is None else load_state(around.state)
    if state is not None:
        fusion.load_state_dict(state.part("fusion"))
        optimizer.load(state.tensors, state.steps)
        dice.set_state(state.tensors["dice"])
    return state


def _leave(
    fusion: Fusion,
    best: dict[str, torch.Tensor],
    optimizer: CosineAdamW,
    dice: torch.Generator,
    state: TrainState,
    around: Surroundings,
) -> None:
    """Keep what the next epoch starts from."""
    if around.state is None or not around.world.is_first:
        return
    state.tensors = {f"fusion.{name}": tensor.cpu().contiguous() for name, tensor in fusion.state_dict().items()}
    state.tensors |= {f"best.{name}": tensor.cpu().contiguous() for name, tensor in best.items()}
    state.tensors |= optimizer.tensors() | {"dice": dice.get_state()}
    save_state(around.state, state)
