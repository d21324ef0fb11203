"""What queries that stand alone are tried on, where things have as many images to ask with as there are things."""

import pytest
import torch
import torch.nn.functional as F

from memory import MODALITIES, Modality
from models.fusion import FusionConfig
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from models.training.fitting.trials import trials

D, THINGS, K = 64, 60, 5


@pytest.fixture(params=[2, 3])
def pairs(request: pytest.FixtureRequest) -> EntityPairs:
    """Two or three pairs of each thing, in no order; the names of half of the things say what they look like."""
    dice = torch.Generator().manual_seed(request.param)
    looks, opaque = torch.randn(2, THINGS, D, generator=dice)
    entity = torch.arange(THINGS).repeat(request.param)[torch.randperm(THINGS * request.param, generator=dice)]
    names = torch.where((torch.arange(THINGS) % 2 == 0).unsqueeze(1), looks, opaque)
    image, text = (part[entity] + 0.3 * torch.randn(len(entity), D, generator=dice) for part in (looks, names))
    return EntityPairs(F.normalize(image, dim=-1), F.normalize(text, dim=-1), entity)


@pytest.mark.parametrize("modality", MODALITIES)
def test_whoever_asks_in_a_trial_has_a_right_answer(pairs: EntityPairs, modality: Modality) -> None:
    tried = trials(pairs, modality, K, torch.arange(THINGS), torch.Generator().manual_seed(0), 1.0)
    assert len(tried) == 11, "with those of the things that are known"
    for trial in tried:
        assert trial.right.shape == (len(trial.asked.queries), len(trial.gallery))
        assert (trial.right.sum(dim=0 if trial.by_gallery else 1) > 0).all()


def test_a_fusion_can_be_fitted(pairs: EntityPairs) -> None:
    """It ended in a RuntimeError: an image without a right answer made the loss NaN."""
    fusion = fit_evidence(pairs, FusionConfig("evidence", D, k=K))
    assert all(part.isfinite().all() for part in fusion.state_dict().values())
