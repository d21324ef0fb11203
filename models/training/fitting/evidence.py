"""Fit the `evidence` design in closed form: no gradient, no learning rate, seconds instead of minutes.

What is fitted, on each side: the centre and the whitening (the shrunk inverse scatter of values within an entity), what
is held (logistic regressions on queries whose entity is there, hidden, or has wrong values), and the weight of queries
that stand alone (`stand_alone.py`). The latter two are fitted on entities that the whitening did not
see.
Shapes: N pairs, G entities, K neighbours, D embedding dim.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import Modality
from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import EvidenceFusion, Likely
from models.fusion.stand_alone import StandAlone
from models.training.dataset.entity_pairs import SAME_CAPTION, Asked, EntityPairs, ask, means_of
from models.training.fitting.stand_alone import fit_stand_alone, spread
from models.training.fitting.trials import trials

SHRINKAGE = 2.0  # of the mean eigenvalue, added to the within-entity scatter before it is inverted
TEMPERATURE = 1 / 30
HELD_OUT = 0.25  # share of the entities that what is held is fitted on
HELD_OUT_ALONE = 0.5  # and the weight of queries that stand alone, which has more numbers
MOST_ALONE = 300  # entities, for time: every step compares all their images with all their names
LACKING_CARE = 6.0  # for harm where the memory lacks what the encoder knows; 1 everywhere else
# How far aside, at most, as a length: a cosine of 0.96. Texts of CLIP ViT-B/32 for 354 names in three sets of prompts
# are 0.96 alike, and 0.98 without what a set has in common; two names of different things 0.86.
OTHER_WORDS = 0.3
FOUND_BY, PAIRED_BY = [0, 2], [1]  # the signs that tell it
_RIDGE = 1e-4
_NEWTON_STEPS = 30


def fit_evidence(
    pairs: EntityPairs,
    config: FusionConfig,
    seed: int = 0,
    *,
    alone: bool = True,
    told: Callable[[int, int], None] | None = None,
) -> Fusion:
    """Fit both sides.

    Args:
        pairs: of many entities; those of names that the encoder knows and of names that it does not are both welcome.
        config: of the design `evidence`.
        seed: of the entities that are held out, and of what is hidden and mixed up.
        alone: fit the weight of queries that stand alone too; label sets do without.
        told: called with the steps done, and how many there are.

    Returns:
        The fusion, on the CPU, in evaluation mode.
    """
    dice = torch.Generator().manual_seed(seed)
    pairs = pairs.sample(dice)
    order = torch.randperm(pairs.num_entities, generator=dice)
    count = max(2, round(HELD_OUT * len(order)))
    shown, held_out = pairs.of_entities(order[count:]), pairs.of_entities(order[:count])
    fusion = Fusion(config).eval().requires_grad_(False)
    step = _steps(6 if alone else 4, told)
    for modality, side in sides(fusion):
        _fit_whitening(side, shown, modality, config.k)
        fit_products(side.stand_alone, shown, modality)
        _fit_held(side, held_out, modality, config.k, dice)
        step()
    if alone:
        _fit_alone(fusion, pairs, order, config.k, torch.Generator().manual_seed(seed), step)
    for modality, side in sides(fusion):
        _fit_whitening(side, pairs, modality, config.k)
        fit_products(side.stand_alone, pairs, modality)
        step()
    return fusion


def _steps(total: int, told: Callable[[int, int], None] | None) -> Callable[[], None]:
    """To be called after each step; tells that none is done now."""
    done = itertools.count()

    def step() -> None:
        if told is not None:
            told(next(done), total)

    step()
    return step


def sides(fusion: Fusion) -> list[tuple[Modality, EvidenceFusion]]:
    """Both sides of a fusion of this design, by the modality of their queries."""
    image, text = fusion.image, fusion.text
    assert isinstance(image, EvidenceFusion) and isinstance(text, EvidenceFusion), "the design is `evidence`"
    return [("image", image), ("text", text)]


@torch.no_grad()
def _fit_whitening(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int) -> None:
    """The inverse of the scatter within entities, scaled so that evidence and names spread alike at weight 1."""
    others = pairs.names if modality == "image" else pairs.questions[0]
    fit_whitening(side, pairs, modality, ask(pairs, modality, k), others)


@torch.no_grad()
def fit_whitening(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, asked: Asked, others: Tensor) -> None:
    """As above, the spread being that of some queries, and of what they find, over `others` (n, D)."""
    fitted = _whitening(pairs.values(modality), pairs)
    side.centre.copy_(fitted.centre)
    side.whitening.copy_(fitted.inverse)
    side.temperature.fill_(TEMPERATURE)
    evidence = side.direction(*side.evidence(asked.values, side.attend(asked.similarities, asked.mask)))
    units = spread(asked.queries @ others.T) / spread(evidence @ others.T)
    side.whitening.mul_(units)
    side.one_part.copy_(fitted.one_part / units)
    side.leverage.copy_(fitted.leverage)


class _Whitening(NamedTuple):
    """The centre (D,) of some rows, the shrunk inverse (D, D) of their scatter within entities, the part that a row's
    deviation, squared, has in what was inverted, and how much of a row the inverse damps, on average (leverage)."""

    centre: Tensor
    inverse: Tensor
    one_part: Tensor
    leverage: Tensor


def _whitening(rows: Tensor, pairs: EntityPairs) -> _Whitening:
    """Of one row a pair (N, D)."""
    means = means_of(rows, pairs.entity)
    deviation = rows - means[pairs.entity]
    freedom = max(1, len(rows) - pairs.num_entities)
    within = deviation.T @ deviation / freedom
    # Rows that hardly differ within an entity, such as one caption for all its images: the plain inner product.
    within += 1e-3 * (means - means.mean(0)).square().mean() * torch.eye(len(within))
    level = within.diagonal().mean()
    inverse = torch.linalg.inv(within / level + SHRINKAGE * torch.eye(len(within)))
    damped = len(inverse) - SHRINKAGE * inverse.trace()  # directions, of D
    return _Whitening(means.mean(dim=0), inverse, 1 / (freedom * level), damped / freedom)


@torch.no_grad()
def _fit_held(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int, dice: torch.Generator) -> None:
    """Learn the signs of queries whose entity is there, beside those of nothing found and of mixed-up pairs."""
    values = pairs.values(modality)
    use, hidden = (ask(pairs, modality, k, hidden=one) for one in (False, True))
    random = torch.randint(0, len(values), use.rows.shape, generator=dice)
    mixed_up = torch.randperm(len(values), generator=dice)[use.rows]  # captions pair by pair, and all at once
    there = signs_of(side, use.queries, use, use.values)
    wrong = [signs_of(side, use.queries, use, values[rows]) for rows in (random, mixed_up)]
    aside = signs_of(side, otherwise_worded(use.queries, use.keys[:, 0], dice), use, use.values)
    missing = signs_of(side, hidden.queries, hidden, hidden.values)
    for likely, judged, so, not_so in (
        (side.found, FOUND_BY, aside, missing),
        (side.paired, PAIRED_BY, there, torch.cat(wrong)),
    ):
        fit_likely(likely, judged, so, not_so)


@torch.no_grad()
def fit_likely(likely: Likely, judged: list[int], so: Tensor, not_so: Tensor) -> None:
    """Have a probability tell some signs (n, S) from others (m, S) by those that are `judged`."""
    answer = torch.cat([torch.ones(len(so)), torch.zeros(len(not_so))])
    weight, bias = _logistic(torch.cat([so, not_so])[:, judged], answer)
    likely.weight.zero_()[judged] = weight
    likely.bias.copy_(bias)


def signs_of(side: EvidenceFusion, queries: Tensor, asked: Asked, values: Tensor) -> Tensor:
    """The signs (B, n) of queries (B, D) that found what is asked, with other values (B, K, D) beside it."""
    return side.signs(queries, asked.keys[:, 0], values, side.attend(asked.similarities, asked.mask))


def otherwise_worded(queries: Tensor, best: Tensor, dice: torch.Generator) -> Tensor:
    """Queries (B, D) that find themselves, word for word, moved aside as other words for the same thing would be.

    Where all captions of a thing are one text, nothing tells what other words would find, and any distance would pass
    for another thing.
    """
    aside = F.normalize(torch.randn(queries.shape, generator=dice), dim=-1)
    aside = aside * OTHER_WORDS * torch.rand(len(queries), 1, generator=dice)
    equal = (queries * best).sum(dim=1, keepdim=True) > SAME_CAPTION
    return torch.where(equal, F.normalize(queries + aside, dim=-1), queries)


@torch.no_grad()
def _fit_alone(
    fusion: Fusion, pairs: EntityPairs, order: Tensor, k: int, dice: torch.Generator, step: Callable[[], None]
) -> None:
    """The weight for queries that stand alone, on the half of the entities that the whitening did not see.

    They search all pairs: among half of them, neighbours would be less similar than in use.
    """
    count = max(2, round(HELD_OUT_ALONE * len(order)))
    shown, held_out = pairs.of_entities(order[count:]), order[: min(count, MOST_ALONE)].sort().values
    for modality, side in sides(fusion):
        _fit_whitening(side, shown, modality, k)
        fit_products(side.stand_alone, shown, modality)
        tried = trials(pairs, modality, k, held_out, dice, LACKING_CARE)
        fit_stand_alone(side, tried, with_handicap=modality == "text")
        step()


def fit_products(alone: StandAlone, pairs: EntityPairs, modality: Modality) -> None:
    """What a query is compared with, and what it finds, each whitened like the evidence."""
    for product, rows in ((alone.keys, pairs.keys(modality)), (alone.values, pairs.values(modality))):
        fitted = _whitening(rows, pairs)
        product.fit(fitted.centre, fitted.inverse)


def _logistic(signs: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression by Newton's method, in float64: signs (B, n) to weight (n,) and bias ()."""
    mean, spread = signs.mean(dim=0), signs.std(dim=0).clamp(min=1e-4)
    design = F.pad((signs - mean) / spread, (0, 1), value=1.0).double()
    target, weights = known.double(), torch.zeros(design.shape[1], dtype=torch.double)
    for _ in range(_NEWTON_STEPS):
        likely = torch.sigmoid(design @ weights)
        slope = design.T @ (likely - target) / len(design) + _RIDGE * weights
        curve = (design * (likely * (1 - likely)).unsqueeze(1)).T @ design / len(design)
        weights = weights - torch.linalg.solve(curve + _RIDGE * torch.eye(len(weights)), slope)
    weight = weights[:-1].float() / spread
    return weight, weights[-1].float() - weight @ mean
