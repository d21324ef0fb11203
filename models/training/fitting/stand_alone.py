"""Fit the weight of queries that stand alone by what it does: to use, and in memories that know nothing useful.

All trials (`trials.py`) count alike, each by its loss above the frozen encoder's, plus the harm to those who ask: as
far as each of them does worse than frozen, so that no gain of many pays for it. L-BFGS, some tens of steps on thirteen
numbers a side. Shapes: B queries, n answers, D embedding dim.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.evidence import EvidenceFusion
from models.fusion.stand_alone import NUM_SIGNS, StandAlone, share
from models.training.fitting.trials import Trial

_STEPS = 60
_RIDGE = 1e-4
_MOST = 16.0  # for the limit: beyond, nothing is left of the query
_FIRST_REACH = -2.7  # of the limit's way to that: about 1
_FIRST_SHARPNESS = 1.0  # as a log
_FIRST_NEEDED, _FIRST_NEEDED_BIAS = -0.5, 3.0  # of what the encoder matches by itself; all needed, almost


def fit_stand_alone(side: EvidenceFusion, trials: list[Trial], *, with_handicap: bool) -> None:
    """Set the numbers of `side.stand_alone`; its products and the side's whitening must have been fitted.

    Args:
        side: changed in place.
        trials: of entities that the whitening did not see.
        with_handicap: for texts, which are told apart from texts without evidence; images only meet themselves.
    """
    alone = side.stand_alone
    with torch.no_grad():
        prepared = [_Prepared.of(side, trial) for trial in trials]
    signs = torch.cat([one.signs for one in prepared])
    alone.centre.copy_(signs.mean(dim=0))
    alone.spread.copy_(signs.std(dim=0).clamp(min=1e-4))
    with torch.enable_grad():
        _descend(alone, prepared, with_handicap)


def _descend(alone: StandAlone, prepared: list["_Prepared"], with_handicap: bool) -> None:
    sharpness = torch.full((len(prepared),), _FIRST_SHARPNESS, requires_grad=True)
    reach = torch.tensor(_FIRST_REACH, requires_grad=True)
    handicap = torch.zeros((), requires_grad=with_handicap)
    names = ("there", "there_bias", "needed", "needed_bias")
    needed = F.pad(torch.tensor([_FIRST_NEEDED]), (NUM_SIGNS - 1, 0))
    moved = [torch.zeros(NUM_SIGNS), torch.zeros(()), needed, torch.tensor(_FIRST_NEEDED_BIAS)]
    for part in moved:
        part.requires_grad_()
    free = [sharpness, reach, *moved, *([handicap] if with_handicap else [])]
    search = torch.optim.LBFGS(free, max_iter=_STEPS, history_size=12, line_search_fn="strong_wolfe")

    # At the end of what float32 can tell its line search may leap, as far as where nothing is finite.
    least, best = math.inf, [part.detach().clone() for part in free]

    def loss() -> Tensor:
        nonlocal least, best
        search.zero_grad()
        total = _RIDGE * sum((part.square().sum() * (1.0 if part.ndim else 0.1) for part in moved), torch.zeros(()))
        for trial, factor in zip(prepared, sharpness.exp(), strict=True):
            weight = _MOST * torch.sigmoid(reach) * share(alone.scaled(trial.signs), *moved)
            total = total + trial.loss(weight, handicap, factor)
        total.backward()
        if total.item() < least:
            least, best = total.item(), [part.detach().clone() for part in free]
        return total

    search.step(loss)
    with torch.no_grad():
        for part, found in zip(free, best, strict=True):
            part.copy_(found)
        alone.limit.copy_(_MOST * torch.sigmoid(reach))
        alone.handicap.copy_(handicap)
        for name, part in zip(names, moved, strict=True):
            getattr(alone, name).copy_(part)


@dataclass(frozen=True)
class _Prepared:
    """A trial in numbers that do not change with the weights.

    A refined query is q + w (o - h a), its score for an answer x that over its length: all inner products are here.
    """

    trial: Trial
    signs: Tensor  # (B, n)
    real: Tensor  # (B,) 1 for a query with neighbours, 0 without
    from_query: Tensor  # (B, n) <q, x>
    from_evidence: Tensor  # (B, n) <o, x>
    from_axis: Tensor  # (n,) <a, x>
    products: tuple[Tensor, Tensor, Tensor, Tensor]  # <q, o>, <o, o>, <q, a>, <o, a>, (B,) each
    right: Tensor  # of those who ask, the share of each answer
    frozen: Tensor  # their scores, spread 1

    @classmethod
    def of(cls, side: EvidenceFusion, trial: Trial) -> "_Prepared":
        asked, gallery = trial.asked, trial.gallery
        evidence, signs = side.alone(asked.queries, asked.keys, *asked.found)
        axis, query = side.axis, asked.queries
        right = trial.right.T if trial.by_gallery else trial.right
        plain = query @ gallery.T
        frozen = plain.T if trial.by_gallery else plain
        products = (query * evidence).sum(1), evidence.square().sum(1), query @ axis, evidence @ axis
        return cls(
            trial=trial,
            signs=signs,
            real=asked.mask.any(dim=1).float(),
            from_query=plain,
            from_evidence=evidence @ gallery.T,
            from_axis=gallery @ axis,
            products=products,
            right=right / right.sum(dim=1, keepdim=True),
            frozen=frozen / spread(frozen),
        )

    def loss(self, weight: Tensor, handicap: Tensor, sharpness: Tensor) -> Tensor:
        """Mean cross-entropy of those who ask, and the care for the harm among them."""
        scores = self._scores(weight * self.real, handicap)
        found = self._entropy(sharpness * scores / spread(scores).detach())
        before = self._entropy(sharpness.detach() * self.frozen)
        return found.mean() + self.trial.care * F.relu(found - before).mean()

    def _scores(self, weight: Tensor, handicap: Tensor) -> Tensor:
        to_evidence, evidence, to_axis, along = self.products
        square = 1 + 2 * weight * (to_evidence - handicap * to_axis)
        square = square + weight.square() * (evidence - 2 * handicap * along + handicap.square())
        step = weight.unsqueeze(1) * (self.from_evidence - handicap * self.from_axis)
        scores = (self.from_query + step) / square.clamp(min=1e-9).sqrt().unsqueeze(1)
        return scores.T if self.trial.by_gallery else scores

    def _entropy(self, logits: Tensor) -> Tensor:
        return -(self.right * F.log_softmax(logits, dim=1)).sum(dim=1)


def spread(scores: Tensor) -> Tensor:
    """How far the scores of one who asks differ, on average."""
    return scores.std(dim=1).mean().clamp(min=1e-6)
