"""The default fusion: the query plus what the memory's evidence says, whitened and weighed. Trained in closed form.

    m = sum_j softmax(s_j / temperature) r_j - centre       o = m A       refined = norm(query + weight * o~)

It is the paper's layer with one head, whose value projection A is the linear discriminant of entities: the shrunk
inverse of how values of *one* entity differ (pose, light, words around the name), so that what distinguishes entities
counts and what does not is damped. o~ is o without its part along the centre, minus half of the quadratic term that a
Gaussian likelihood of the values has (<o, m> / 2; the unit norm takes care of the other half).

How far to go, `weight`, is a property of what is asked. For a query alone `stand_alone.py` says it; for a set of labels
`label_set.py` measures it on what the labels find. Weight 0 and no neighbours are CLIP, exactly.
Shapes: B queries, K neighbours, D embedding dim.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.config import FusionConfig
from models.fusion.stand_alone import StandAlone, nearness

NUM_SIGNS = 3
KNOWN = 0.2  # what is less probably held, the memory does not know
# Of <o, m>: half of it is in a Gaussian's exponent, and half of that the unit norm of the result takes care of.
QUADRATIC = 0.25
_SURE = 10.0  # of a logistic regression: yes, whatever it is asked


class Likely(nn.Module):
    """The probability of something, a logistic regression on a query's signs; until it is fitted, it is so."""

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(NUM_SIGNS))
        self.register_buffer("bias", torch.full((), _SURE))

    def forward(self, signs: Tensor) -> Tensor:
        """(B, NUM_SIGNS) to (B,) in [0, 1]."""
        return torch.sigmoid(signs @ self.weight + self.bias)


class EvidenceFusion(nn.Module):
    """One side of the fusion. All its numbers are fitted by `models.training.fitting.evidence`; it has no gradient.

    Of its whitening it knows what leaving one value out of it would change (`left_out.py`): the part that the square of
    a value's deviation has in what was inverted, and the mean leverage of those values; 0 if that is not known.

    Whether the memory holds what a query asks for are two questions, each with its own signs: whether the nearest
    neighbour is the query's (`found`), and whether what stands beside it is one thing (`paired`). One regression on all
    signs takes mixed-up captions for right ones wherever names are found less exactly than in training.
    """

    centre: Tensor
    whitening: Tensor
    temperature: Tensor
    one_part: Tensor
    leverage: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))
        self.register_buffer("temperature", torch.tensor(0.05))
        self.register_buffer("one_part", torch.zeros(()))
        self.register_buffer("leverage", torch.zeros(()))
        self.found = Likely()
        self.paired = Likely()
        self.stand_alone = StandAlone(dim)
        self.register_load_state_dict_pre_hook(_from_before)  # type: ignore[no-untyped-call]

    def forward(
        self,
        query: Tensor,
        values: Tensor,
        similarities: Tensor,
        mask: Tensor,
        weight: Tensor | None = None,
        *,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Refine queries.

        Args:
            query: (B, D) float32, unit norm.
            values: (B, K, D) float32, unit norm, of the other modality, most similar first.
            similarities: (B, K) float32 of the neighbours to the query.
            mask: (B, K) bool, True for a real neighbour; none at all is allowed, and leaves the query as it is.
            weight: (B,) or () of the evidence; by default each query's own, as `StandAlone` has it.
            keys: (B, K, D) float32, unit norm, what the query was compared with; needed where no weight is given.

        Returns:
            (B, D) float32, unit norm.
        """
        if not mask.shape[1]:
            return query
        if weight is not None:
            evidence = self.direction(*self.evidence(values, self.attend(similarities, mask)))
            refined: Tensor = F.normalize(query + weight.reshape(-1, 1) * evidence, dim=-1)
            return refined
        assert keys is not None, "a query that stands alone is judged by its keys"
        evidence, signs = self.alone(query, keys, values, similarities, mask)
        own: Tensor = self.stand_alone(signs) * mask.any(dim=1)
        step = evidence - self.stand_alone.handicap * self.axis
        return F.normalize(query + own.unsqueeze(1) * step, dim=-1)

    @property
    def axis(self) -> Tensor:
        """(D,) unit norm: along the centre, what all of the other modality has in common."""
        axis: Tensor = self.centre / self.centre.norm().clamp(min=1e-6)
        return axis

    def alone(
        self, query: Tensor, keys: Tensor, values: Tensor, similarities: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """For queries that stand alone: o~ (B, D), and the signs (B, n) that their weight is read off."""
        attention = self.attend(similarities, mask)
        mean, whitened = self.evidence(values, attention)
        match = (F.normalize(mean, dim=-1) * query).sum(dim=-1)
        signs = self.stand_alone.signs(query, keys, values, similarities, mask, match)
        return self.direction(mean, whitened), signs

    def attend(self, similarities: Tensor, mask: Tensor) -> Tensor:
        """(B, K) attention, summing to 1, or to 0 without neighbours."""
        logits = (similarities / self.temperature).masked_fill(~mask, torch.finfo(similarities.dtype).min)
        return logits.softmax(dim=-1) * mask if mask.shape[1] else similarities

    def evidence(self, values: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """The centred mean of the values and its whitened form: m and o, (B, D) each."""
        mean = torch.einsum("bk,bkd->bd", attention, values) - attention.sum(dim=1, keepdim=True) * self.centre
        return mean, mean @ self.whitening

    def direction(self, mean: Tensor, whitened: Tensor) -> Tensor:
        """o~: (B, D). What lies along the centre lifts all of the other modality alike, and carries the bias."""
        bias = QUADRATIC * (whitened * mean).sum(dim=-1) / self.centre.norm().clamp(min=1e-6)
        turned: Tensor = whitened - ((whitened @ self.axis) + bias).unsqueeze(-1) * self.axis
        return turned

    def held(self, signs: Tensor) -> Tensor:
        """The probability (B,) that the memory holds what each query asks for, from (B, NUM_SIGNS) as `signs`."""
        likely: Tensor = self.found(signs) * self.paired(signs)
        return likely

    def signs(self, query: Tensor, best: Tensor, values: Tensor, attention: Tensor) -> Tensor:
        """What `held` judges by: (B, NUM_SIGNS) float32.

        1 log(1 - similarity of the best neighbour)             2 how far the neighbours' values agree with each other
        3 how near the best neighbour is among what tells things apart (whitened)

        A query whose thing is missing finds less similar items; a wrong caption stands beside images that have nothing
        in common; a name that the encoder does not know is no more like its own captions than a known one is like
        others', but for the third.

        Args:
            query: (B, D) unit norm.
            best: (B, D) unit norm, the most similar of what it was compared with; zeros where it found nothing.
            values: (B, K, D) unit norm, of the other modality.
            attention: (B, K) as `attend`.
        """
        centred = F.normalize(values - self.centre, dim=-1)
        mixed = torch.einsum("bk,bkd->bd", attention, centred)
        own = attention.square().sum(dim=1)
        agreement = (mixed.square().sum(dim=1) - own) / (1 - own).clamp(min=0.05)
        similarity = (query * best).sum(dim=-1)
        among_what_tells = self.stand_alone.keys.cosines(query, best.unsqueeze(1)).squeeze(1)
        return torch.stack([-nearness(similarity), agreement, nearness(among_what_tells)], dim=-1)


def _from_before(side: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Checkpoints from before judged by one regression: `presence` on two signs, later `held` on all of them.

    What they took for missing is missing still: below 0.1, and 0.05. Nor did they know what one value changes.
    """
    if f"{prefix}whitening" in state:
        for name in ("one_part", "leverage"):
            state.setdefault(f"{prefix}{name}", torch.zeros(()))
    if f"{prefix}presence.weight" not in state:
        return
    weight, bias, least = F.pad(state.pop(f"{prefix}presence.weight"), (0, 1)), state.pop(f"{prefix}presence.bias"), 0.1
    if f"{prefix}held.weight" in state:
        weight, bias, least = state.pop(f"{prefix}held.weight"), state.pop(f"{prefix}held.bias"), 0.05
    state[f"{prefix}found.weight"] = weight
    state[f"{prefix}found.bias"] = bias + _log_odds(KNOWN) - _log_odds(least)
    state[f"{prefix}paired.weight"] = torch.zeros(NUM_SIGNS)
    state[f"{prefix}paired.bias"] = torch.full((), _SURE)


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
