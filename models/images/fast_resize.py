"""Resize and crop as open_clip's inference transform does, by torch's 8-bit kernels instead of Pillow's.

Both are Pillow's algorithm with antialiasing; torch's is vectorised and rounds its weights more coarsely, so a value
may differ by one. Imports torch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

_MODES = ("bicubic", "bilinear")


class FastResize:
    """Shortest side to S, then the S × S in the middle; or both sides to S ("squash")."""

    def __init__(self, side: int, interpolation: str, *, squash: bool) -> None:
        self._side, self._interpolation, self._squash = side, interpolation, squash

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "FastResize | None":
        """The resize of a preprocessing record; None if only open_clip has it."""
        height, width = record["size"]
        known = (
            height == width and record["interpolation"] in _MODES and record["resize_mode"] in ("shortest", "squash")
        )
        return cls(height, record["interpolation"], squash=record["resize_mode"] == "squash") if known else None

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 to (S, S, 3) uint8."""
        side = self._side
        height, width = self._scaled(*pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            # Channels last, which its kernels take as they are. A copy: torch warns of Pillow's read-only arrays.
            image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
            resized = F.interpolate(image, size=(height, width), mode=self._interpolation, antialias=True)
            pixels = resized[0].permute(1, 2, 0).numpy()
        top, left = round((height - side) / 2), round((width - side) / 2)  # as torchvision rounds it
        return pixels[top : top + side, left : left + side]

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        side = self._side
        if self._squash:
            return side, side
        # As torchvision cuts it: the long side rounds down.
        return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
