"""One record's image: bytes to hash, pixels and thumbnail. Imports models and Pillow; runs in threads."""

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from memory_builder.records import Record
from models.images import Preprocessor, decode_image

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    import torch

_QUALITY = 80  # about 3 kB at 96 px


@dataclass(frozen=True)
class Decoded:
    """An image as the encoder takes it, and what is kept of it.

    Attributes:
        content_sha256: hex, of the file's bytes.
        pixels: (3, S, S) float32, exactly what the service would make of the same bytes.
        thumbnail: JPEG bytes, or None.
    """

    content_sha256: str
    pixels: "torch.Tensor"
    thumbnail: bytes | None


def decode(record: Record, preprocess: Preprocessor, thumbnail_px: int) -> Decoded:
    """Read and decode a record's image.

    Raises:
        RowRejected: the bytes cannot be read.
        models.errors.ImageError: they are no image we accept, with the service's own codes.
        CorpusError: source_changed.
    """
    data = record.image()
    pixels = preprocess(data)
    thumbnail = make_thumbnail(decode_image(data, preprocess.limits), thumbnail_px) if thumbnail_px else None
    return Decoded(hashlib.sha256(data).hexdigest(), pixels, thumbnail)


def hash_content(record: Record) -> str:
    """SHA-256 (hex) of a record's image file, not decoded.

    Raises:
        RowRejected, CorpusError: as `decode`.
    """
    return hashlib.sha256(record.image()).hexdigest()


def make_thumbnail(image: Image.Image, longer_px: int) -> bytes:
    """A JPEG whose longer side has at most `longer_px` pixels; the same image gives the same bytes."""
    small = image.copy()
    small.thumbnail((longer_px, longer_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
