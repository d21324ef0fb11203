"""The composed encoder's fusion of what was found: one weight a query, and what the designs without weights do."""

from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memory import Memory, Modality, Neighbours
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from models.fusion.evidence import EvidenceFusion
from models.fusion.label_set import weigh_label_set
from models.refine import RetrievalEnhancedEncoder

B, K, D = 5, 3, 128
NO_MEMORY = cast(Memory, None)  # only `search` asks it


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def asked() -> tuple[NDArray[np.float32], Neighbours]:
    """Queries and what they found; the last of them found one item only."""
    dice = np.random.default_rng(0)
    mask = np.ones((B, K), dtype=bool)
    mask[-1, 1:] = False
    similarities = -np.sort(-dice.uniform(0.5, 0.9, size=(B, K)).astype(np.float32), axis=1) * mask
    values = unit(dice.normal(size=(B, K, D))) * mask[..., None]
    keys = unit(dice.normal(size=(B, K, D))) * mask[..., None]
    return unit(dice.normal(size=(B, D))), Neighbours(np.where(mask, 7, -1), similarities, values, keys, mask)


def composed(encoder: Encoder, design: str = "evidence") -> RetrievalEnhancedEncoder:
    fusion = Fusion(FusionConfig(design, D, k=K))  # type: ignore[arg-type]
    for side in (fusion.image, fusion.text):
        if isinstance(side, EvidenceFusion):
            side.centre.copy_(torch.full((D,), 0.01))
            side.found.bias.fill_(0.3)
    return RetrievalEnhancedEncoder(encoder, NO_MEMORY, fusion.requires_grad_(False))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_row_takes_its_own_weight_and_nan_is_the_trained_default(encoder: Encoder, modality: Modality) -> None:
    queries, found = asked()
    whole = composed(encoder)
    weights = np.array([0.5, np.nan, 0.0, 2.0, np.nan], dtype=np.float32)
    fused = whole.fuse(queries, found, modality=modality, weights=weights)
    alone = whole.fuse(queries, found, modality=modality)
    assert whole.fusion is not None
    side = whole.fusion.side(modality)
    assert isinstance(side, EvidenceFusion)
    for row, weight in enumerate(weights):
        parts = (queries, found.values, found.similarities, found.mask)
        single = [torch.from_numpy(part[row : row + 1]) for part in parts]
        by_hand = side(*single, weight=torch.tensor(weight))[0].numpy()
        expected = alone[row] if np.isnan(weight) else queries[row] if weight == 0 else by_hand
        np.testing.assert_allclose(fused[row], expected, atol=1e-6)
    assert np.abs(fused - alone)[[0, 2, 3]].max(axis=1).min() > 1e-3  # else nothing was told apart


def test_weight_zero_is_the_original_bit_for_bit(encoder: Encoder) -> None:
    queries, found = asked()
    fused = composed(encoder).fuse(queries, found, modality="text", weights=np.zeros(B, dtype=np.float32))
    np.testing.assert_array_equal(fused, queries)


def test_no_queries_are_no_embeddings(encoder: Encoder) -> None:
    queries, found = asked()
    none = Neighbours(found.ids[:0], found.similarities[:0], found.values[:0], found.keys[:0], found.mask[:0])
    fused = composed(encoder).fuse(queries[:0], none, modality="text", weights=np.zeros(0, dtype=np.float32))
    assert fused.shape == (0, D)


def test_a_label_set_is_weighed_by_the_fusion(encoder: Encoder) -> None:
    queries, found = asked()
    whole = composed(encoder)
    assert whole.fusion is not None and whole.weighs_label_sets
    parts = (queries, found.values, found.similarities, found.mask, found.keys)
    expected = weigh_label_set(whole.fusion, *(torch.from_numpy(part) for part in parts))
    assert expected is not None and whole.weigh(queries, found) == expected


@pytest.mark.parametrize("design", ["faithful", "copy", "gate"])
def test_designs_without_weights_refuse_them(encoder: Encoder, design: str) -> None:
    queries, found = asked()
    whole = composed(encoder, design)
    assert not whole.weighs_label_sets
    assert whole.weigh(queries, found) is None
    with pytest.raises(ValueError, match=design):
        whole.fuse(queries, found, modality="text", weights=np.zeros(B, dtype=np.float32))


def test_without_a_fusion_nothing_is_weighed_or_fused(encoder: Encoder) -> None:
    queries, found = asked()
    plain = RetrievalEnhancedEncoder(encoder, NO_MEMORY, None)
    assert not plain.weighs_label_sets
    assert plain.weigh(queries, found) is None
    with pytest.raises(RuntimeError, match="reco train"):
        plain.fuse(queries, found, modality="text")
