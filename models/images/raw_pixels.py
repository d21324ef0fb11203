"""Raw pixels, normalised where the encoder computes. torch only."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class RawPixels:
    """What `Preprocessor.pixels` leaves out if asked for raw pixels: the same numbers, on the encoder's device."""

    def __init__(self, record: Mapping[str, Any], device: torch.device) -> None:
        """Take the mean and deviation of `Preprocessor.record`."""
        self._mean, self._std = (
            torch.tensor(record[name], dtype=torch.float32, device=device)[:, None, None] for name in ("mean", "std")
        )

    def __call__(self, raw: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 to float32."""
        return (raw.float() / 255 - self._mean) / self._std
