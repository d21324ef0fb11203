"""Fit the `evidence` design in closed form: no gradient, no learning rate, seconds instead of minutes.

What is fitted, on each side: the centre and the whitening (the shrunk inverse scatter of values within an entity), the
presence (logistic regression on queries whose entity is there, hidden, or has wrong values), and the weight of queries
that stand alone. The last two are fitted on entities that the whitening did not see.
Shapes: N pairs, G entities, K neighbours, D embedding dim.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import Modality
from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import NUM_SIGNS, EvidenceFusion
from models.fusion.label_set import SHARPNESS, WEIGHTS
from models.training.entity_pairs import SAME_CAPTION, Asked, EntityPairs, ask, ask_for_pair, means_of

SHRINKAGE = 2.0  # of the mean eigenvalue, added to the within-entity scatter before it is inverted
TEMPERATURE = 1 / 30
SLOPES = (0.0, -0.5, -1.0, -1.5, -2.0)
HELD_OUT = 0.25  # share of the entities that presence and weights are fitted on
_RIDGE = 1e-4
_NEWTON_STEPS = 30


def fit_evidence(pairs: EntityPairs, config: FusionConfig, seed: int = 0) -> Fusion:
    """Fit both sides.

    Args:
        pairs: of many entities; those of names that the encoder knows and of names that it does not are both welcome.
        config: of the design `evidence`.
        seed: of the entities that are held out, and of what is hidden and mixed up for the presence.

    Returns:
        The fusion, on the CPU, in evaluation mode.
    """
    dice = torch.Generator().manual_seed(seed)
    pairs = pairs.sample(dice)
    order = torch.randperm(pairs.num_entities, generator=dice)
    count = max(2, round(HELD_OUT * len(order)))
    shown, held_out = pairs.of_entities(order[count:]), pairs.of_entities(order[:count])
    fusion = Fusion(config).eval().requires_grad_(False)
    for modality, side in _sides(fusion):
        _fit_whitening(side, shown, modality, config.k)
        _fit_presence(side, held_out, modality, config.k, dice)
        _fit_stand_alone(side, held_out, modality, config.k)
        _fit_whitening(side, pairs, modality, config.k)
    return fusion


def _sides(fusion: Fusion) -> list[tuple[Modality, EvidenceFusion]]:
    image, text = fusion.image, fusion.text
    assert isinstance(image, EvidenceFusion) and isinstance(text, EvidenceFusion), "the design is `evidence`"
    return [("image", image), ("text", text)]


@torch.no_grad()
def _fit_whitening(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int) -> None:
    """The inverse of the scatter within entities, scaled so that evidence and names spread alike at weight 1."""
    values = pairs.values(modality)
    means = means_of(values, pairs.entity)
    deviation = values - means[pairs.entity]
    within = deviation.T @ deviation / max(1, len(values) - pairs.num_entities)
    # Values that hardly differ within an entity, such as one caption for all its images: the plain inner product.
    within += 1e-3 * (means - means.mean(0)).square().mean() * torch.eye(len(within))
    side.centre.copy_(means.mean(dim=0))
    side.temperature.fill_(TEMPERATURE)
    level = within.diagonal().mean()
    side.whitening.copy_(torch.linalg.inv(within / level + SHRINKAGE * torch.eye(len(within))))
    asked = ask(pairs, modality, k)
    evidence = side.direction(*side.evidence(asked.values, side.attend(asked.similarities, asked.mask)))
    others = pairs.names if modality == "image" else pairs.questions[0]
    side.whitening.mul_(_spread(asked.queries @ others.T) / _spread(evidence @ others.T))


@torch.no_grad()
def _fit_presence(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int, dice: torch.Generator) -> None:
    """Learn the signs of queries whose entity is there from those of queries that find nothing of theirs."""
    values = pairs.values(modality)
    signs: list[Tensor] = []
    known: list[Tensor] = []
    for hidden in (False, True):
        asked = ask(pairs, modality, k, hidden=hidden)
        attention = side.attend(asked.similarities, asked.mask)
        signs.append(side.signs(*asked.found, attention))
        known.append(torch.full((len(asked.rows),), float(not hidden)))
        if not hidden:  # captions that were mixed up, pair by pair and all at once
            random = values[torch.randint(0, len(values), asked.rows.shape, generator=dice)]
            mixed = values[torch.randperm(len(values), generator=dice)][asked.rows]
            for wrong in (random, mixed):
                signs.append(side.signs(wrong, asked.similarities, asked.mask, attention))
                known.append(torch.zeros(len(asked.rows)))
    weight, bias = _logistic(torch.cat(signs), torch.cat(known))
    side.presence.weight.copy_(weight)
    side.presence.bias.copy_(bias)


@torch.no_grad()
def _fit_stand_alone(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int) -> None:
    """The weight for queries that stand alone, each against the other side's originals, which nobody refined.

    Two uses count alike: to tell entities apart by name, and to find the very pair that a caption or an image is of.
    The first alone would take every mug for the mug that was asked for.
    """
    trials = [_entity_trial(pairs, modality, k), _pair_trial(pairs, modality, k)]
    asked = trials[0].asked
    agreement = side.agreement(asked.queries, asked.values, side.attend(asked.similarities, asked.mask))
    side.stand_alone.centre.copy_(agreement.mean())
    side.stand_alone.spread.copy_(agreement.std().clamp(min=1e-4))
    losses: dict[tuple[float, float], float] = {}
    for level, slope in itertools.product(WEIGHTS, SLOPES):
        side.stand_alone.level.fill_(level)
        side.stand_alone.slope.fill_(slope)
        losses[level, slope] = sum(trial.loss(side) for trial in trials)
    level, slope = min(losses, key=lambda point: (round(losses[point], 4), point[0], -point[1]))
    side.stand_alone.level.fill_(level)
    side.stand_alone.slope.fill_(slope)


@dataclass(frozen=True)
class _Trial:
    """Queries (B, D) against a gallery (n, D) of the other modality, with the share (B, n) that is right for each.

    `by_gallery`: it is the gallery's rows that look for a query, as images look for their name.
    """

    asked: Asked
    gallery: Tensor
    right: Tensor
    by_gallery: bool = False

    def loss(self, side: EvidenceFusion) -> float:
        """Cross-entropy at its best sharpness."""
        scores = side(self.asked.queries, *self.asked.found) @ self.gallery.T
        scores, right = (scores.T, self.right.T) if self.by_gallery else (scores, self.right)
        scores, right = scores / _spread(scores), right / right.sum(dim=1, keepdim=True)
        return min(float(F.cross_entropy(factor * scores, right)) for factor in SHARPNESS)


def _entity_trial(pairs: EntityPairs, modality: Modality, k: int) -> _Trial:
    """Images and the names of their entities; it is always the image that asks for its name."""
    asked, (images, labels) = ask(pairs, modality, k), pairs.questions
    belongs = F.one_hot(labels, pairs.num_entities).float()  # (images, G)
    if modality == "image":
        return _Trial(asked, pairs.names, belongs)
    return _Trial(asked, images, belongs.T, by_gallery=True)


def _pair_trial(pairs: EntityPairs, modality: Modality, k: int) -> _Trial:
    """Single pairs: a caption and its own image, or those of an equal caption."""
    asked = ask_for_pair(pairs, modality, k)
    text = pairs.text[asked.entity]  # of a pair query, the row it is of
    gallery = text if modality == "image" else pairs.image[asked.entity]
    return _Trial(asked, gallery, (text @ text.T > SAME_CAPTION).float())


def _spread(scores: Tensor) -> Tensor:
    """How far a query's scores differ, on average."""
    return scores.std(dim=1).mean().clamp(min=1e-6)


def _logistic(signs: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression by Newton's method, in float64: weight (NUM_SIGNS,) and bias ()."""
    mean, spread = signs.mean(dim=0), signs.std(dim=0).clamp(min=1e-4)
    design = F.pad((signs - mean) / spread, (0, 1), value=1.0).double()
    target, weights = known.double(), torch.zeros(NUM_SIGNS + 1, dtype=torch.double)
    for _ in range(_NEWTON_STEPS):
        likely = torch.sigmoid(design @ weights)
        slope = design.T @ (likely - target) / len(design) + _RIDGE * weights
        curve = (design * (likely * (1 - likely)).unsqueeze(1)).T @ design / len(design)
        weights = weights - torch.linalg.solve(curve + _RIDGE * torch.eye(NUM_SIGNS + 1), slope)
    weight = weights[:-1].float() / spread
    return weight, weights[-1].float() - weight @ mean
