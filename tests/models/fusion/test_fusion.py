"""The fusion modules: the paper's parameter count, the plain twin, masks, and where each design starts."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion import DESIGNS, Design, Fusion, FusionConfig
from models.fusion.evidence import EvidenceFusion
from models.fusion.features import NeighbourFeatures


def neighbourhood(batch: int, k: int, dim: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    query = F.normalize(torch.randn(batch, dim, generator=dice), dim=-1)
    values = F.normalize(torch.randn(batch, k, dim, generator=dice), dim=-1)
    similarities = torch.rand(batch, k, generator=dice).sort(dim=1, descending=True).values
    mask = torch.rand(batch, k, generator=dice) > 0.3
    mask[0] = True
    return query, values, similarities, mask


def refined(module: nn.Module, found: tuple[Tensor, Tensor, Tensor, Tensor], keys: Tensor) -> Tensor:
    """Refine; a query that stands alone is also judged by its neighbours' keys, where the design does."""
    answer: Tensor = module(*found, keys=keys) if isinstance(module, EvidenceFusion) else module(*found)
    return answer


def trained_like(fusion: Fusion, seed: int = 1) -> Fusion:
    """Every parameter moved off its special start, so that no path is silent."""
    torch.manual_seed(seed)
    for parameter in fusion.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return fusion.eval()


def test_the_faithful_module_has_the_papers_parameter_count() -> None:
    fusion = Fusion(FusionConfig("faithful", 512, k=10))
    assert sum(p.numel() for p in fusion.image.parameters()) == 3_159_040
    assert sum(p.numel() for p in fusion.text.parameters()) == 3_159_040


@pytest.mark.parametrize("masked", [False, True])
def test_folded_token_0_readout_equals_the_plain_layer(masked: bool) -> None:
    """torch's own pre-norm layer over all tokens, with the same weights, is the slow and obvious twin."""
    torch.manual_seed(0)
    module = trained_like(Fusion(FusionConfig("faithful", 128, k=10))).image
    query, values, similarities, mask = neighbourhood(7, 10, 128)
    mask = mask if masked else torch.ones_like(mask)

    plain = nn.TransformerEncoderLayer(
        128, 2, 512, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
    ).eval()
    plain.self_attn.in_proj_weight.data = module.qkv.weight.data
    plain.self_attn.in_proj_bias.data = module.qkv.bias.data
    plain.self_attn.out_proj.load_state_dict(module.out.state_dict())
    plain.norm1.load_state_dict(module.attention_norm.state_dict())
    plain.norm2.load_state_dict(module.feed_forward_norm.state_dict())
    plain.linear1.load_state_dict(module.feed_forward[0].state_dict())
    plain.linear2.load_state_dict(module.feed_forward[2].state_dict())
    tokens = torch.cat([query.unsqueeze(1), values], dim=1) * math.sqrt(128) + module.positions
    with torch.no_grad():
        all_tokens = plain(tokens, src_key_padding_mask=F.pad(~mask, (1, 0), value=False))
        expected = F.normalize(module.final_norm(all_tokens)[:, 0], dim=-1)
        found = module(query, values, similarities, mask)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("design", DESIGNS)
def test_masked_neighbours_change_nothing(design: Design) -> None:
    module = trained_like(Fusion(FusionConfig(design, 128))).image
    query, values, similarities, mask = neighbourhood(5, 10, 128)
    keys = values.roll(1, 1)
    other, others = (torch.where(mask.unsqueeze(-1), rows, -rows.roll(1, 0)) for rows in (values, keys))
    noise = torch.where(mask, similarities, torch.full_like(similarities, 0.9))
    with torch.no_grad():
        one = refined(module, (query, values * mask.unsqueeze(-1), similarities * mask, mask), keys)
        two = refined(module, (query, other, noise, mask), others)
    torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("design", DESIGNS)
def test_no_neighbours_and_row_independence(design: Design) -> None:
    module = trained_like(Fusion(FusionConfig(design, 128))).text
    query, values, similarities, mask = neighbourhood(6, 10, 128)
    mask[2], keys = False, values.roll(1, 1)
    with torch.no_grad():
        batch = refined(module, (query, values, similarities, mask), keys)
        alone = refined(module, (query[2:3], values[2:3, :0], similarities[2:3, :0], mask[2:3, :0]), keys[2:3, :0])
        third = refined(module, (query[4:5], values[4:5], similarities[4:5], mask[4:5]), keys[4:5])
    assert torch.isfinite(batch).all()
    torch.testing.assert_close(batch.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(batch[2:3], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(batch[4:5], third, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("design", ["copy", "gate"])
def test_residual_designs_start_next_to_clip_and_at_clip_without_neighbours(design: Design) -> None:
    module = Fusion(FusionConfig(design, 512)).eval().image
    query, values, similarities, mask = neighbourhood(16, 10, 512)
    with torch.no_grad():
        near = module(query, values, similarities, mask)
        abstained = module(query, values, similarities, torch.zeros_like(mask))
    assert (near * query).sum(dim=-1).min() > 0.99
    torch.testing.assert_close(abstained, query)


def test_copy_starts_as_gated_mean_fusion() -> None:
    """With equal trust, K neighbours and one null slot share the attention: K/(K+1) of the step to their mean."""
    module = Fusion(FusionConfig("copy", 128)).eval().image
    query, values, similarities, mask = neighbourhood(4, 10, 128)
    mask[:] = True
    with torch.no_grad():
        refined = module(query, values, similarities, mask)
    expected = F.normalize(query + math.exp(-2.3) * 10 / 11 * values.mean(dim=1), dim=-1)
    torch.testing.assert_close(refined, expected, atol=1e-5, rtol=1e-4)


def test_faithful_refuses_more_neighbours_than_it_has_positions() -> None:
    module = Fusion(FusionConfig("faithful", 128, k=4)).image
    with pytest.raises(ValueError, match="5 neighbours"):
        module(*neighbourhood(2, 5, 128))


@pytest.mark.parametrize("wrong", [{"design": "other"}, {"embed_dim": 100}, {"embed_dim": 0}, {"k": 0}, {"k": 101}])
def test_config_refuses_what_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        FusionConfig(**{"design": "copy", "embed_dim": 512, **wrong})  # type: ignore[arg-type]


def test_features_of_no_neighbours_are_refused() -> None:
    """Their mean is no number, which would show as a loss that is none, at any learning rate."""
    query, values, similarities = torch.eye(64)[:3], torch.zeros(3, 4, 64), torch.zeros(3, 4)
    with pytest.raises(ValueError, match="fewer than two neighbours"):
        NeighbourFeatures(64).fit(query, values, similarities, torch.zeros(3, 4, dtype=torch.bool))
