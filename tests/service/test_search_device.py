"""RECO_SEARCH_DEVICE: where the memory is searched, by the setting, the encoder's device and what FAISS finds."""

import pytest
import torch

from memory import Gpu
from models.errors import EncoderError
from service.pipeline import search_device
from service.pipeline.search_device import choose_gpu

FREE = 80 << 30


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (FREE, FREE))
    monkeypatch.setattr(search_device, "num_gpus", lambda: 1)


@pytest.mark.parametrize(
    ("setting", "encoder_device", "expected"),
    [
        ("auto", "cuda", Gpu(0, FREE // 2)),
        ("auto", "cuda:0", Gpu(0, FREE // 2)),
        ("auto", "cpu", None),
        ("cpu", "cuda", None),
        ("cuda", "cpu", Gpu(0, FREE // 2, required=True)),
        ("cuda:0", "cuda", Gpu(0, FREE // 2, required=True)),
    ],
)
def test_auto_goes_with_the_encoder_and_a_name_is_obeyed(
    one_gpu: None, setting: str, encoder_device: str, expected: Gpu | None
) -> None:
    assert choose_gpu(setting, encoder_device) == expected


def test_auto_stays_on_the_cpu_where_faiss_has_no_gpu(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_device, "num_gpus", lambda: 0)
    assert choose_gpu("auto", "cuda") is None


def test_a_gpu_that_is_named_and_not_there_is_refused(one_gpu: None) -> None:
    with pytest.raises(EncoderError) as caught:
        choose_gpu("cuda:3", "cuda")
    assert caught.value.code == "device_unavailable"
