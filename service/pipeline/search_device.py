"""Which GPU the memory is searched on, by RECO_SEARCH_DEVICE. Depends on memory and torch."""

from typing import Final

import torch

from memory import Gpu, num_gpus
from models.devices import choose_device

_SHARE: Final = 0.5  # of the GPU's free memory: the next version is opened beside the one that serves


def choose_gpu(setting: str, encoder_device: str) -> Gpu | None:
    """The GPU to search on, or None for the CPU.

    Args:
        setting: auto, cpu, cuda or cuda:N.
        encoder_device: where the encoder is; auto goes with it.

    Raises:
        EncoderError: device_unavailable, if it is named and is not there.
    """
    auto = setting == "auto"
    if setting == "cpu" or (auto and not (encoder_device.startswith("cuda") and num_gpus())):
        return None
    device = choose_device(encoder_device if auto else setting)
    free, _ = torch.cuda.mem_get_info(device)
    return Gpu(device.index or 0, int(_SHARE * free), required=not auto)
