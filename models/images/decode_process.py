"""A process that decodes: what runs in it. Files come by a pipe, raw pixels go back by it."""

import torch

from models.images.child_process import settle
from models.images.preprocessor import Preprocessor

_own: list[Preprocessor] = []  # a pool gives its workers no other place


def begin(preprocess: Preprocessor) -> None:
    """Prepare this process."""
    _own[:] = [preprocess]
    settle()


def ready() -> None:
    """Nothing: whoever waits for it knows that this process has begun."""


def decode(data: bytes) -> bytes:
    """An image file to the bytes of its raw pixels, (3, S, S) uint8.

    Raises:
        ImageError: as `Preprocessor.decode`.
    """
    return _own[0](data, raw=True).numpy().tobytes()


def pixels_of(raw: bytes, preprocess: Preprocessor) -> torch.Tensor:
    """What `decode` gave, as a tensor again."""
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(3, *preprocess.record["size"])
