"""A preprocessor for processes: an image that ends in a poison ends its process, as the kernel's OOM killer
would; one that ends in a fault meets a fault of ours."""

import os
from typing import Any

import torch

from models.images.preprocessor import Preprocessor

POISON, FAULT = b"poison", b"fault"


class Poisoned:
    """As `Preprocessor`."""

    def __init__(self, inner: Preprocessor) -> None:
        self._inner = inner
        self.record = inner.record

    def __call__(self, data: bytes, **options: Any) -> torch.Tensor:
        if data.endswith(POISON):
            os._exit(1)
        if data.endswith(FAULT):
            raise ZeroDivisionError
        return self._inner(data, **options)
