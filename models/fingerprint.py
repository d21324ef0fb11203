"""What makes two encoders the same: architecture, weights, preprocessing, tokenizer, and what they answer to probes.

Imports torch and Pillow.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

# Short, plain, and within every tokenizer's vocabulary; never change them: memories hold the answers.
PROBE_TEXTS = ("a small bird on a branch", "two red umbrellas in the rain at night")
_PROBE_SIZE = 96
_PROBE_DIGITS = 6


@dataclass(frozen=True)
class Fingerprint:
    """The identity of an encoder, written into each memory's manifest and each fusion checkpoint.

    Two encoders are the same if all fields of `record()` but the probes are equal and each probe vector agrees to
    cosine 0.999: another device or precision of the same weights is the same encoder.
    """

    architecture: str
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    embed_dim: int
    probes: Mapping[str, list[list[float]]]
    device: str
    dtype: str

    def record(self) -> dict[str, Any]:
        """The identity as plain JSON: equal on every machine, but for the last digits of the probes."""
        return {
            **self._identity(),
            "probes": {key: [list(v) for v in rows] for key, rows in self.probes.items()},
        }

    def encoded_with(self) -> dict[str, str]:
        """How this process computes: goes beside the record, not into it."""
        return {"device": self.device, "dtype": self.dtype}

    @property
    def id(self) -> str:
        """16 hex digits over the record without the probes."""
        canonical = json.dumps(self._identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def _identity(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "weights_sha256": self.weights_sha256,
            "preprocessing": dict(self.preprocessing),
            "tokenizer": dict(self.tokenizer),
            "embed_dim": self.embed_dim,
        }


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and values in order of name.

    Values count as float32: a float16 file and the float32 file made from it are the same weights. Hash before
    casting to the precision of the run, which would lose digits.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def round_probe(embedding: Iterable[float]) -> list[float]:
    """A probe's (D,) embedding as JSON numbers."""
    return [round(float(value), _PROBE_DIGITS) for value in embedding]


def probe_images() -> list[bytes]:
    """Two PNG files drawn in whole numbers, equal on every machine: rings, and bars under a transparent corner."""
    return [_draw_png("RGB", _rings), _draw_png("RGBA", _bars)]


def _rings(x: int, y: int) -> tuple[int, ...]:
    squared_radius = (x - 40) ** 2 + (y - 52) ** 2
    return (squared_radius // 3 % 256, 255 * x // _PROBE_SIZE, 255 * y // _PROBE_SIZE)


def _bars(x: int, y: int) -> tuple[int, ...]:
    bar = (x * x // 64 + y) % 32 < 16
    return (220 if bar else 30, (3 * y) % 256, 90 if bar else 200, 0 if x + y < _PROBE_SIZE // 2 else 255)


def _draw_png(mode: str, colour: Callable[[int, int], tuple[int, ...]]) -> bytes:
    size = range(_PROBE_SIZE)
    pixels = bytes(value for y in size for x in size for value in colour(x, y))
    file = io.BytesIO()
    Image.frombytes(mode, (_PROBE_SIZE, _PROBE_SIZE), pixels).save(file, "PNG")
    return file.getvalue()
