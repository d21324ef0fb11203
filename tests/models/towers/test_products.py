"""Products give what torch's linear layer gives, by whichever library and with however many threads."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from models.devices import choose_dtype
from models.towers import products
from models.towers.products import Product, has_products, linear, padded_rows

CPU = torch.device("cpu")
needs_products = pytest.mark.skipif(not has_products(CPU, torch.float32), reason="needs an x86 CPU with AVX2")


@pytest.fixture
def threads() -> Iterator[None]:
    """What a test sets of torch's threads is as before afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def layer(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(outputs)
    return torch.randn(outputs, inputs, generator=dice) / inputs**0.5, torch.randn(outputs, generator=dice)


def expected(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: str) -> torch.Tensor:
    activate = {"none": lambda y: y, "gelu": F.gelu, "swish": F.silu}[activation]
    return activate(F.linear(x.double(), weight.double(), bias.double())).float()


@needs_products
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("activation", ["none", "gelu", "swish"])
@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (2, 3), (9, 50), (0,)], ids=str)
@pytest.mark.parametrize("mkl", [False, True], ids=["onednn", "mkl"])
@torch.inference_mode()
def test_it_is_a_linear_layer(
    mkl: bool, shape: tuple[int, ...], activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "by_mkl", lambda dtype: mkl)
    torch.set_num_threads(2)
    weight, bias = layer(192, 32)
    x = torch.randn(*shape, 32, generator=torch.Generator().manual_seed(0))
    y = Product(weight, bias, torch.float32, activation)(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, expected(x, weight, bias, activation), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 3, 6, 24])
@torch.inference_mode()
def test_a_weight_in_parts_gives_the_same(parts: int) -> None:
    weight, bias = layer(48, 32)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    y = linear(x, weight.unflatten(0, (parts, -1)), bias, "gelu")
    torch.testing.assert_close(y, expected(x, weight, bias, "gelu"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("threads_of_torch", "outputs", "parts"),
    [
        (1, 768, 1),
        (2, 768, 2),
        (3, 768, 3),
        (4, 768, 4),
        (5, 3072, 24),
        (7, 768, 6),
        (8, 2304, 8),
        (64, 768, 12),
        (2, 7, 1),
    ],
)
def test_a_weight_has_as_many_parts_as_keep_all_threads_busy(
    threads_of_torch: int, outputs: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "by_mkl", lambda dtype: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads_of_torch)
    weight, bias = layer(outputs, 16)
    kept = Product(weight, bias, torch.float32).tensors[0]
    assert kept.shape == (parts, outputs // parts, 16)
    assert kept.data_ptr() == weight.data_ptr(), "the weight is not kept twice"


def test_only_a_cpu_has_them_and_only_of_what_its_libraries_take() -> None:
    assert not has_products(CPU, torch.float16)
    assert not has_products(torch.device("cuda"), torch.float32)


def test_float32_is_mkls_where_there_is_nothing_wider_than_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for capability, mkl in {"AVX2": True, "AVX512": False}.items():
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert products.by_mkl(torch.float32) is mkl
        assert products.by_mkl(torch.bfloat16) is False
        assert padded_rows(1001, torch.float32) == (1001 if mkl else 1024)


def test_numbers_of_rows_are_few_and_hardly_more_than_asked() -> None:
    numbers = [padded_rows(rows, torch.bfloat16) for rows in range(1, 5000)]
    assert len(set(numbers)) < 128
    for rows, padded in enumerate(numbers, start=1):
        assert rows <= padded < rows + max(4, rows / 16 + 1)
        assert padded % 4 == 0
        assert padded_rows(padded, torch.bfloat16) == padded


@needs_products
def test_bfloat16_is_not_there_where_onednn_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx_ne_convert or avx512bw")

    monkeypatch.setattr(products, "Product", refuse)
    products._onednn_packs.cache_clear()
    try:
        assert not has_products(CPU, torch.bfloat16)
    finally:
        products._onednn_packs.cache_clear()


def test_bfloat16_is_there_where_the_cpu_multiplies_in_it() -> None:
    if choose_dtype("auto", CPU) != torch.bfloat16:
        pytest.skip("this CPU does not multiply in bfloat16")
    assert has_products(CPU, torch.bfloat16)
