"""Device and dtype choice, with the hardware played by the test."""

import pytest
import torch

from models.devices import choose_device, choose_dtype
from models.errors import EncoderError


def with_hardware(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (0, True, "cpu"), (0, False, "cpu"), (1, False, "cuda")]
)
def test_auto_is_a_card_or_else_the_processor_and_never_apples_gpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str
) -> None:
    with_hardware(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "xla", "meta", "gpu", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    with_hardware(monkeypatch, mps=True)
    with pytest.raises(EncoderError) as caught:
        choose_device(device)
    assert caught.value.code == "device_unavailable"


def test_a_card_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with_hardware(monkeypatch, cuda=2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EncoderError):
        choose_device("cuda:2")


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_dtype_on_cuda(monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_dtype("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"neon": True}, torch.float32),
    ],
)
def test_auto_dtype_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", torch.device("cpu")) == expected


def test_the_capability_names_are_torchs_own() -> None:
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16"} <= set(capabilities)


def test_other_devices_and_named_dtypes() -> None:
    assert choose_dtype("auto", torch.device("xpu")) == torch.float32
    assert choose_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(EncoderError) as caught:
        choose_dtype("int8", torch.device("cpu"))
    assert caught.value.code == "dtype_unknown"
