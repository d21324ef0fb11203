"""Choose a design for single pairs by what is held out: pairs that training does not show, each looking for its own.

Asked is what an index of plain embeddings would be asked: a refined query against answers that nobody refined. Where
the designs that learn from single pairs find no more than the frozen encoder, that is said. Shapes: N pairs, V of them
held out, D embedding dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import MODALITIES, Modality
from models.fusion import Design, Fusion
from models.fusion.label_set import SHARPNESS
from models.training.config import TrainConfig
from models.training.dataset.pairs import TrainingPairs
from models.training.dataset.split import whole_groups
from models.training.gradients.batches import plain_side
from models.training.gradients.loop import Surroundings, train
from models.training.lead import Lead, told_leads
from models.training.progress import Told, unheard
from models.training.recipes import recipe

HELD_OUT = 0.2
MOST_PAIRS = 8_000  # more steady no choice, and cost minutes
MOST_HELD_OUT = 1_000
EPOCHS = 8
# Design and learning rate: where names are strong, a little of `copy` is all that helps; where they are weak, much.
TRIED: tuple[tuple[Design, float], ...] = (("gate", 1e-2), ("copy", 3e-5), ("copy", 1e-3))


@dataclass(frozen=True)
class PairCandidate:
    """A design at a rate, the loss that its queries reach on held-out pairs, and the % that find their pair first."""

    design: Design
    learning_rate: float
    loss: float
    found: float


@dataclass(frozen=True)
class PairChoice:
    """The candidates by loss, best first, and loss and found of the frozen encoder beside them.

    Attributes:
        asked: held-out pairs; each asks with its text and with its image.
        leads: of the best by loss over the next one and over the frozen encoder.
    """

    frozen: tuple[float, float]
    candidates: tuple[PairCandidate, ...]
    asked: int
    leads: tuple[Lead, ...] = ()

    @property
    def best(self) -> PairCandidate:
        """What to train; where nothing gains, the `gate`, which goes least far from CLIP."""
        return self.candidates[0] if self.gains else next(one for one in self.candidates if one.design == "gate")

    @property
    def gains(self) -> bool:
        """Whether the best is better than the frozen encoder."""
        return self.candidates[0].loss < self.frozen[0]

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        best = self.best
        measured = [f"{one.design} at {one.learning_rate:g} {one.found:.1f}" for one in self.candidates]
        told = (
            f"{', '.join(measured)}, frozen {self.frozen[1]:.1f} "
            f"(% of {self.asked:,} held-out pairs that a refined query finds first)"
        )
        sentence = f"design {best.design}, rate {best.learning_rate:g}, by its loss: {told}"
        if not self.gains:
            return f"{sentence}. None has a lower loss than the frozen encoder: expect no gain"
        if self.leads:
            sentence += f"; its loss is {told_leads(self.leads, '.3f')} (± the standard error)"
        return sentence


def choose_for_pairs(pairs: TrainingPairs, k: int, seed: int = 0, told: Told = unheard) -> PairChoice:
    """Train `TRIED` on most of the pairs, and measure them on the others.

    Args:
        pairs: with their candidates; a sample of them is enough to compare by.
        k: neighbours a query.
        seed: of the sample, the split and the training.
        told: what is tried, how much of it is done, and how much there is.

    Raises:
        ValueError: too few pairs that differ, see `whole_groups`.
    """
    dice = torch.Generator().manual_seed(seed)
    sample = pairs.some(MOST_PAIRS, dice)
    most = min(max(2, round(HELD_OUT * len(sample))), MOST_HELD_OUT)
    order = torch.randperm(len(sample), generator=dice)
    asks = torch.from_numpy(whole_groups(sample.group[sample.ids].numpy(), order.numpy(), most))
    held_out, shown = (sample.kept(part.nonzero().squeeze(1)) for part in (asks, ~asks))
    measured = dict[PairCandidate, Tensor]()
    for design, rate in TRIED:
        config = recipe(design, sample.embed_dim, k=k, seed=seed, epochs=EPOCHS, learning_rate=rate)
        around = Surroundings(progress=partial(told, f"trying {design} at {rate:g}"))
        fusion = train(shown, config, surroundings=around)
        losses, found = _measure(held_out, fusion, config)
        measured[PairCandidate(design, rate, float(losses.mean()), found)] = losses
    plain, found = _measure(held_out, None, config)
    best, *others = sorted(measured, key=lambda one: one.loss)
    rivals = {f"{others[0].design} at {others[0].learning_rate:g}": measured[others[0]], "frozen": plain}
    _, group = held_out.group[held_out.ids].unique(return_inverse=True)
    leads = [Lead.of(name, losses, measured[best], group) for name, losses in rivals.items()]  # the lower is ahead
    return PairChoice((float(plain.mean()), found), (best, *others), len(held_out), tuple(leads))


@torch.inference_mode()
def _measure(pairs: TrainingPairs, fusion: Fusion | None, config: TrainConfig) -> tuple[Tensor, float]:
    """Loss (V,) and the share found, mean of both directions; those of a group are right for each other."""
    everyone = torch.arange(len(pairs))
    sides = {modality: plain_side(pairs, modality, everyone, config) for modality in MODALITIES}
    right = pairs.positives(everyone)
    losses, found = list[Tensor](), list[float]()
    directions: Sequence[tuple[Modality, Modality]] = (("text", "image"), ("image", "text"))
    for asks, answers in directions:
        side = sides[asks]
        queries = side.query
        if fusion is not None:
            queries = fusion.side(asks)(side.query, side.values, side.similarities, side.mask)
        scores = queries @ sides[answers].query.T  # (V, V)
        losses.append(_loss(scores, right))
        found.append(float(right.gather(1, scores.argmax(dim=1, keepdim=True)).float().mean()) * 100)
    return torch.stack(losses).mean(dim=0), sum(found) / 2


def _loss(scores: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy (V,) at the sharpness that is best for all."""
    scores = scores / scores.std(dim=1).mean().clamp(min=1e-6)
    target = right / right.sum(dim=1, keepdim=True)
    tried = (F.cross_entropy(factor * scores, target, reduction="none") for factor in SHARPNESS)
    return min(tried, key=lambda losses: float(losses.mean()))
