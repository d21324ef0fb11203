"""Bytes to the encoder's input: one function for the service and the builder.

Imports torch and open_clip only when a Preprocessor is made and gives pixels, so that a process that just decodes stays
small.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.images.decoding import RULES_VERSION, ImageLimits, Picture, decode_picture

if TYPE_CHECKING:
    import torch
    from open_clip.transform import PreprocessCfg

PreprocessMode: TypeAlias = Literal["fast", "exact"]

# Times the encoder's side that a JPEG's shorter side is decoded at least: what its scaling loses is then lost in
# resizing anyway. With 2 a sharp picture just above it kept cosine 0.9997, with 3 0.9999 (docs/performance.md).
_ENOUGH = 3


class Preprocessor:
    """Image bytes to one row of the image tower's input.

    `exact` is open_clip's own inference transform, bit for bit. `fast` differs in who resizes: torch's 8-bit kernels
    follow the same rule in a fraction of the time, and round about one value in 400 to the next of 256. And in who
    scales: of a JPEG much larger than the encoder's side, libjpeg decodes a half, a quarter or an eighth of each side.
    Both take the same files and give equal embeddings to cosine 0.9999 (docs/performance.md).

    Holds no state between calls: safe to share between threads.

    Attributes:
        record: what decides the pixels, for the fingerprint: the transform's settings and the version of our rules.
        limits: what is refused before decoding.
        mode: fast or exact; exact if the model's transform is one that only open_clip has.
    """

    def __init__(
        self, config: Mapping[str, Any], limits: ImageLimits | None = None, *, mode: PreprocessMode = "exact"
    ) -> None:
        """Take `model.visual.preprocess_cfg` of an open_clip model."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        from models.images.fast_resize import FastResize

        settings = PreprocessCfg(**config)
        self.limits = limits or ImageLimits()
        self.record: dict[str, Any] = {**_describe(settings), "rules": RULES_VERSION}
        *resize, _, _ = image_transform_v2(settings, is_train=False).transforms
        self._exact_resize = resize
        self._fast_resize = FastResize.of(self.record) if mode == "fast" else None
        self.mode: PreprocessMode = "exact" if self._fast_resize is None else "fast"
        self._mean, self._std = (
            np.array(self.record[name], dtype=np.float32)[:, None, None] for name in ("mean", "std")
        )

    def __call__(self, data: bytes, *, raw: bool = False) -> "torch.Tensor":
        """Decode and preprocess an image file: as `pixels`.

        Raises:
            ImageError: as `decode_image`.
        """
        return self.pixels(self.decode(data), raw=raw)

    def decode(self, data: bytes) -> Picture:
        """The first half: its shorter side has no fewer pixels than `enough` unless the file has.

        Raises:
            ImageError: as `decode_image`.
        """
        return decode_picture(data, self.limits, enough=self.enough)

    @property
    def enough(self) -> int | None:
        """Pixels of a JPEG's shorter side that are decoded at least; None is all of them."""
        return None if self._fast_resize is None else _ENOUGH * self._fast_resize.side

    def pixels(self, picture: Picture, *, raw: bool = False) -> "torch.Tensor":
        """The second half: a decoded image to (3, S, S) float32, normalised by the model's mean and deviation.

        Args:
            picture: as `decode` gives it.
            raw: uint8, before normalising (`RawPixels`): a quarter of what is copied to an accelerator.
        """
        import torch

        # numpy from here on: torch would start a team of threads of its own in each thread that decodes.
        resized = self._resize(picture).transpose(2, 0, 1)  # (3, S, S)
        if raw:
            return torch.from_numpy(resized.copy(order="C"))
        row = resized.astype(np.float32, order="C")
        row /= 255
        row -= self._mean
        row /= self._std
        return torch.from_numpy(row)

    def _resize(self, picture: Picture) -> NDArray[np.uint8]:
        """(S, S, 3) uint8; CMYK is converted after resizing, as by open_clip."""
        if self._fast_resize is not None and picture.image.mode == "RGB":
            return self._fast_resize(picture)
        image = picture.upright()
        for step in self._exact_resize:
            image = step(image)
        return np.asarray(image)


def _describe(settings: "PreprocessCfg") -> dict[str, Any]:
    """The settings as JSON, with the size always as [height, width]: open_clip writes both 224 and (224, 224)."""
    size = settings.size
    return {
        **asdict(settings),
        "size": [size, size] if isinstance(size, int) else list(size),
        "mean": list(settings.mean),
        "std": list(settings.std),
    }
