"""Resize and crop as open_clip's inference transform does, by torch's 8-bit kernels instead of Pillow's.

Both are Pillow's algorithm with antialiasing; torch's is vectorised and rounds its weights more coarsely, so a value
may differ by one. A picture is turned upright when it is small. Imports torch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from models.images.decoding import Picture, turn
from models.images.orientation import UPRIGHT

_MODES = ("bicubic", "bilinear")
_A_BIT_MORE = 1 + 1e-9  # so that a whole number times its factor is not cut to the one below


class FastResize:
    """Shortest side to S, then the S × S in the middle; or both sides to S ("squash").

    Attributes:
        side: S.
    """

    def __init__(self, side: int, interpolation: str, *, squash: bool) -> None:
        self.side, self._interpolation, self._squash = side, interpolation, squash

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "FastResize | None":
        """The resize of a preprocessing record; None if only open_clip has it."""
        height, width = record["size"]
        known = (
            height == width and record["interpolation"] in _MODES and record["resize_mode"] in ("shortest", "squash")
        )
        return cls(height, record["interpolation"], squash=record["resize_mode"] == "squash") if known else None

    def __call__(self, picture: Picture) -> NDArray[np.uint8]:
        """An RGB picture to (S, S, 3) uint8, upright."""
        pixels = self._scale(picture)
        if picture.orientation != UPRIGHT:
            pixels = np.asarray(turn(Image.fromarray(pixels), picture.orientation))
        side, (height, width) = self.side, pixels.shape[:2]
        top, left = round((height - side) / 2), round((width - side) / 2)  # as torchvision rounds it
        return pixels[top : top + side, left : left + side]

    def _scale(self, picture: Picture) -> NDArray[np.uint8]:
        """The whole picture, not turned, at the size of which the middle is taken: (height, width, 3)."""
        width, height = picture.size
        small_width, small_height = self._scaled(width, height)
        if (small_width, small_height) == (width, height):
            return np.asarray(picture.image)
        # Channels last, which its kernels take as they are. A copy: torch warns of Pillow's read-only arrays.
        image = torch.from_numpy(np.array(picture.image)).permute(2, 0, 1)[None]
        size: dict[str, Any] = {"size": (small_height, small_width)}
        if (width, height) != picture.image.size:
            # The last row or column is less than a pixel, which only factors can say: their size is rounded down.
            size = {"scale_factor": (_A_BIT_MORE * small_height / height, _A_BIT_MORE * small_width / width)}
        resized = F.interpolate(image, **size, mode=self._interpolation, antialias=True)
        rows: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
        return rows

    def _scaled(self, width: float, height: float) -> tuple[int, int]:
        side = self.side
        if self._squash:
            return side, side
        # As torchvision cuts it: the long side rounds down.
        return (int(side * width / height), side) if height <= width else (side, int(side * height / width))
