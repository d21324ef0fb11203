"""A function in one call: the same numbers as in many, for any number of items."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor

from models.designs import DESIGNS, Design
from models.fusion import Fusion, FusionConfig
from models.traced import _MOST, Traced

B, K, D = 7, 4, 128


def asked(items: int = B, neighbours: int = K, seed: int = 0) -> tuple[Tensor, ...]:
    """What `Fusion.refine` takes after the modality; one item has a neighbour less and one has none."""
    dice = torch.Generator().manual_seed(seed)
    rows = torch.randn(items, 2 * neighbours + 1, D, generator=dice)
    query, values, keys = torch.nn.functional.normalize(rows, dim=-1).split([1, neighbours, neighbours], dim=1)
    mask = torch.ones(items, neighbours, dtype=torch.bool)
    mask[1:2, -1:] = False
    mask[2:3] = False
    return query[:, 0], values, torch.rand(items, neighbours, generator=dice), mask, keys


def fusion(design: Design) -> Callable[..., Tensor]:
    """A fusion's image side with numbers drawn at random."""
    made = Fusion(FusionConfig(design, D, k=K)).eval().requires_grad_(False)
    dice = torch.Generator().manual_seed(1)
    for number in (*made.parameters(), *(one for one in made.buffers() if one.is_floating_point())):
        number.copy_(torch.rand(number.shape, generator=dice) / 10)
    return partial(made.refine, "image")


@pytest.mark.parametrize("first", [1, B])
@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_the_function_bit_for_bit_whatever_came_first(design: Design, first: int) -> None:
    refine = fusion(design)
    traced = Traced(refine)
    for items in (first, B, 1, 3, 0, B):
        batch = asked(items, seed=items)
        torch.testing.assert_close(traced(*batch), refine(*batch), rtol=0, atol=0)


def test_another_number_of_neighbours_is_another_trace() -> None:
    refine = fusion("evidence")
    traced = Traced(refine)
    for neighbours in (K, 1, 0, 2 * K, K):
        batch = asked(neighbours=neighbours)
        torch.testing.assert_close(traced(*batch), refine(*batch), rtol=0, atol=0)
    assert len(traced._traces) == 4


def test_the_function_is_asked_once_and_its_trace_after_that() -> None:
    calls = []

    def doubled(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return rows * 2

    traced = Traced(doubled)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(traced, [torch.ones(items, 3) for items in range(1, 21)]))
    assert [len(one) for one in made] == list(range(1, 21)) and all((one == 2).all() for one in made)
    assert len(calls) == 1


def test_shapes_beyond_the_most_are_computed_as_they_are() -> None:
    calls = []

    def doubled(rows: Tensor) -> Tensor:
        calls.append(rows.shape[1])
        return rows * 2

    traced = Traced(doubled)
    for _ in range(2):
        for width in range(_MOST + 2):
            assert (traced(torch.ones(1, width)) == 2).all()
    assert len(traced._traces) == _MOST
    assert calls == [*range(_MOST + 2), _MOST, _MOST + 1]


def test_without_torchscript_it_is_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise RuntimeError("no TorchScript")

    monkeypatch.setattr(torch.jit, "trace", gone)
    refine = fusion("evidence")
    batch = asked()
    torch.testing.assert_close(Traced(refine)(*batch), refine(*batch), rtol=0, atol=0)
