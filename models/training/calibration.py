"""Set the gates of a trusting fusion on labelled validation queries: two numbers a side, the layers untouched.

Captions cannot set them: a caption also tells pose and place, and whatever keeps those looks like trust in CLIP. What
counts is whether the right *name* wins, for names that CLIP knows and for names that it does not.
Shapes: N images, C classes, K neighbours, D embedding dim.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import MODALITIES, Modality
from models.fusion import Fusion
from models.fusion.trust import TrustingFusion
from models.training.pairs import Batch

WEIGHTS = (0.0, 0.3, 0.6, 1.0, 2.0)
QUANTILES = (0.0, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class LabelledQueries:
    """A classification with its neighbours: N images, C class texts, and the class (N,) of each image."""

    image: Batch
    text: Batch
    labels: Tensor

    def side(self, modality: Modality) -> Batch:
        """The queries of one modality."""
        return self.image if modality == "image" else self.text


@dataclass(frozen=True)
class _Side:
    """One side of a task before its gate: query and layer output (N, D), agreement (N,)."""

    query: Tensor
    refined: Tensor
    agreement: Tensor

    def gated(self, weight: float, middle: float, width: float) -> Tensor:
        trust = weight * torch.sigmoid((self.agreement - middle) / width)
        return F.normalize(self.refined + trust.unsqueeze(-1) * self.query, dim=-1)


@torch.no_grad()
def calibrate(fusion: Fusion, tasks: Sequence[LabelledQueries]) -> float:
    """Choose both gates by the mean accuracy over the tasks; of equals, the one that trusts CLIP least.

    Args:
        fusion: of the design `trust`; its gates are set in place.
        tasks: best one of names that the encoder knows and one of names that it does not; never what is tested.

    Returns:
        The mean accuracy in percent with the chosen gates.
    """
    sides = {modality: [_side(fusion, task, modality) for task in tasks] for modality in MODALITIES}
    grids = {modality: _grid(parts) for modality, parts in sides.items()}
    width = float(_module(fusion, "image").gate.log_width.exp())
    best, chosen = -1.0, ((0.0, 0.0), (0.0, 0.0))
    gated = {
        modality: {point: [side.gated(*point, width) for side in parts] for point in grids[modality]}
        for modality, parts in sides.items()
    }
    for image, text in itertools.product(grids["image"], grids["text"]):
        pairs = zip(gated["image"][image], gated["text"][text], tasks, strict=True)
        hits = [(i @ t.T).argmax(dim=1).eq(task.labels).float().mean() for i, t, task in pairs]
        score = float(torch.stack(hits).mean() * 100)
        if score > best:
            best, chosen = score, (image, text)
    for modality, (weight, middle) in zip(MODALITIES, chosen, strict=True):
        gate = _module(fusion, modality).gate
        gate.weight.fill_(weight)
        gate.middle.fill_(middle)
    return best


def _module(fusion: Fusion, modality: Modality) -> TrustingFusion:
    module = fusion.side(modality)
    assert isinstance(module, TrustingFusion), "only the design `trust` has gates"
    return module


def _side(fusion: Fusion, task: LabelledQueries, modality: Modality) -> _Side:
    batch, module = task.side(modality), _module(fusion, modality)
    refined = module.layer(batch.query, batch.values, batch.similarities, batch.mask)
    return _Side(batch.query, refined, module.features.agreement(batch.query, batch.values, batch.mask))


def _grid(parts: Sequence[_Side]) -> list[tuple[float, float]]:
    """Weights by middles, smallest weight first; the middles are quantiles of the agreement seen."""
    agreement = torch.cat([part.agreement for part in parts])
    middles = [float(agreement.quantile(q)) for q in QUANTILES]
    return [(0.0, middles[0]), *itertools.product(WEIGHTS[1:], middles)]
