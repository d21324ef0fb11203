"""Fit what weighs sets of labels on single pairs: nothing says which of them show the same thing.

What varies within a thing cannot be seen then. What varies among all things can, and damping that does as well where
names say something: of 600 classes of real CLIP embeddings with one image each and names made weak (sigma 1) both gain
10 points at the weight that names ask for. Whether the caption that a label found is its own is fitted as elsewhere.
Shapes: N pairs, D embedding dim.
"""

from dataclasses import replace

import torch
from torch import Tensor

from memory import Modality
from models.fusion import Fusion
from models.fusion.evidence import EvidenceFusion
from models.training.dataset.entity_pairs import EntityPairs, ask_for_pair
from models.training.fitting.evidence import (
    FOUND_BY,
    PAIRED_BY,
    fit_likely,
    fit_products,
    fit_whitening,
    otherwise_worded,
    sides,
    signs_of,
)

_BEYOND = 3.0  # spreads above the mean: as what stands beside single pairs agrees by chance next to never
_LEAST_SPREAD = 0.02  # of captions that are next to equal, or of one neighbour: there is none to speak of
_SURENESS = 2.0  # of what agrees a spread more, in log odds


def with_label_sets(fusion: Fusion, image: Tensor, text: Tensor, seed: int = 0) -> Fusion:
    """A fusion that was trained on single pairs, with what weighs sets of labels beside it.

    Args:
        fusion: of a design that is trained by gradient.
        image, text: (N, D) float32, unit norm, of the pairs; of very many a part is enough.
        seed: of what moves labels aside.

    Returns:
        A fusion with `label_sets`, on the CPU, in evaluation mode; queries that stand alone are refined as before.
    """
    dice = torch.Generator().manual_seed(seed)
    # As if all showed one thing: what varies among them is then what varies within it.
    pairs = EntityPairs(image, text, torch.zeros(len(image), dtype=torch.int64), least=1)
    weighed = Fusion(replace(fusion.config, label_sets=True)).eval().requires_grad_(False)
    weighed.load_state_dict(fusion.state_dict(), strict=False)
    alone = Fusion(replace(fusion.config, design="evidence")).eval().requires_grad_(False)
    for modality, side in sides(alone):
        _fit(side, pairs, modality, fusion.config.k, dice)
        into = weighed.evidence(modality)
        assert into is not None, "it was made with both"
        into.load_state_dict(side.state_dict())
    return weighed


@torch.no_grad()
def _fit(side: EvidenceFusion, pairs: EntityPairs, modality: Modality, k: int, dice: torch.Generator) -> None:
    there, missing = (ask_for_pair(pairs, modality, k, hidden=one) for one in (False, True))
    fit_whitening(side, pairs, modality, there, pairs.values(modality)[there.entity])
    side.leverage.zero_()  # of how things differ from each other, which is not what images of one label are apart by
    fit_products(side.stand_alone, pairs, modality)
    aside = signs_of(side, otherwise_worded(there.queries, there.keys[:, 0], dice), there, there.values)
    absent = signs_of(side, missing.queries, missing, missing.values)
    fit_likely(side.found, FOUND_BY, aside, absent)
    agreement = signs_of(side, there.queries, there, there.values)[:, PAIRED_BY].squeeze(1)
    spread = agreement.std().clamp(min=_LEAST_SPREAD)
    side.paired.weight.zero_()[PAIRED_BY] = _SURENESS / spread
    side.paired.bias.copy_(-_SURENESS * (agreement.mean() / spread + _BEYOND))
