"""Whitened cosines by a few directions: what they equal, what they leave out, and what they cost."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from models.fusion.damped_product import NUM_DAMPED, DampedProduct

B, K = 4, 6


def drawn(dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries (B, D) and rows (B, K, D)."""
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(B, dim, generator=dice), torch.randn(B, K, dim, generator=dice)


def shrunk_inverse(dim: int, varying: int) -> Tensor:
    """(D, D): of a scatter in which some directions vary much and the others alike."""
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)))[0]
    strength = torch.cat([torch.linspace(9.0, 3.0, varying), torch.full((dim - varying,), 0.2)])
    return torch.linalg.inv(basis @ torch.diag(strength) @ basis.T + 2 * torch.eye(dim))


def cosine(one: Tensor, other: Tensor, whitening: Tensor) -> Tensor:
    return (one @ whitening @ other) / ((one @ whitening @ one) * (other @ whitening @ other)).sqrt()


def test_unfitted_it_is_the_plain_cosine() -> None:
    query, rows = drawn(8)
    plain = torch.nn.functional.cosine_similarity(query.unsqueeze(1), rows, dim=-1)
    torch.testing.assert_close(DampedProduct(8).cosines(query, rows), plain)


@pytest.mark.parametrize(("dim", "varying"), [(8, 3), (2 * NUM_DAMPED, NUM_DAMPED), (2 * NUM_DAMPED, 5)])
def test_where_few_directions_vary_it_is_the_whitened_cosine(dim: int, varying: int) -> None:
    query, rows = drawn(dim)
    centre, whitening = torch.full((dim,), 0.1), shrunk_inverse(dim, varying)
    product = DampedProduct(dim)
    product.fit(centre, whitening)
    cosines = product.cosines(query, rows)
    mask = torch.ones(B, K, dtype=torch.bool)
    mask[-1, -2:] = False
    agreement = product.agreement(rows, mask)
    for b in range(B):
        here = rows[b] - centre
        for k in range(K):
            expected = cosine(query[b] - centre, here[k], whitening)
            torch.testing.assert_close(cosines[b, k], expected, atol=1e-4, rtol=1e-3)
        pairs = [cosine(one, other, whitening) for one, other in permutations(here[mask[b]], 2)]
        torch.testing.assert_close(agreement[b], torch.stack(pairs).mean(), atol=1e-4, rtol=1e-3)


def test_what_varies_in_more_directions_is_damped_where_it_varies_most() -> None:
    dim = 4 * NUM_DAMPED
    product = DampedProduct(dim)
    strength = torch.linspace(0.1, 0.5, dim)
    product.fit(torch.zeros(dim), torch.diag(strength))
    least, most = torch.eye(dim)[:1], torch.eye(dim)[-1:]
    assert float(product.base) == pytest.approx(float(strength[NUM_DAMPED:].mean()))
    lengths = product._squares(torch.cat([least, most]), torch.cat([least, most]) @ product.damped)
    assert lengths.tolist() == pytest.approx([0.1, float(product.base)], abs=1e-5)


def test_a_row_at_the_centre_is_like_nothing() -> None:
    query, rows = drawn(8)
    product = DampedProduct(8)
    product.fit(rows[0, 0], torch.eye(8))
    assert float(product.cosines(query, rows)[0, 0]) == 0.0
    assert product.agreement(rows, torch.ones(B, K, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_agree_with_nothing(count: int) -> None:
    _, rows = drawn(8)
    mask = torch.arange(K).expand(B, K) < count
    torch.testing.assert_close(DampedProduct(8).agreement(rows, mask), torch.zeros(B))
