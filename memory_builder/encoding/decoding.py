"""Images of records: bytes to hash, pixels and thumbnail. Imports models; runs in threads and processes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.format.rows import BLOCK_ROWS
from memory_builder.known_keys import Rival, StoredPair
from memory_builder.records import Record, RowRejected
from models.errors import InputError
from models.images.decoding import decode_image
from models.images.preprocessor import Preprocessor
from models.images.thumbnails import make_thumbnail

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    import torch

# A record batch of a segment counts their bytes in 31 bits, and beyond that nothing could be written.
MAX_THUMBNAIL_BYTES = (2**31 - 1) // BLOCK_ROWS


@dataclass(frozen=True)
class Decoded:
    """An image as the encoder takes it, and what is kept of it.

    Attributes:
        content_sha256: hex, of the file's bytes.
        pixels: (3, S, S) float32 or raw, exactly what the service would make of the same bytes.
        thumbnail: JPEG bytes, or None.
    """

    content_sha256: str
    pixels: "torch.Tensor"
    thumbnail: bytes | None


@dataclass(frozen=True)
class Candidate:
    """A row that will be stored if its image can be.

    Attributes:
        record: its caption as checked.
        rival: what the memory holds under its key.
    """

    record: Record
    rival: Rival | None = None


@dataclass(frozen=True)
class Described:
    """What is kept of an image beside its pixels, as in Decoded."""

    content_sha256: str
    thumbnail: bytes | None


@dataclass(frozen=True)
class Refused:
    """Why a row cannot be stored, as in records.Rejected."""

    code: str
    detail: str


def decode(record: Record, preprocess: Preprocessor, thumbnail_px: int) -> Decoded:
    """Read and decode a record's image.

    Raises:
        RowRejected: the bytes cannot be read.
        models.errors.ImageError: they are no image we accept, with the service's own codes.
        CorpusError: source_changed.
    """
    return _decode(record.image(), preprocess, thumbnail_px)


def decode_batch(
    candidates: Sequence[Candidate], preprocess: Preprocessor, thumbnail_px: int, out: "torch.Tensor"
) -> list[Described | Refused]:
    """Read and decode the images of a batch; a row that fails fails alone.

    Args:
        candidates: (B,) rows.
        preprocess, thumbnail_px: as in `decode`.
        out: (at least B, 3, S, S) float32, or uint8 for raw pixels; its first rows become the pixels of those that did
            not fail, in order.

    Returns:
        (B,) outcomes, in order.

    Raises:
        CorpusError: as `decode`.
    """
    outcomes: list[Described | Refused] = []
    kept = 0
    for candidate in candidates:
        try:
            data = candidate.record.image()
            if candidate.rival is not None:
                _stand_against(candidate.rival, candidate.record, data)
            decoded = _decode(data, preprocess, thumbnail_px, raw=not out.is_floating_point())
        except (InputError, RowRejected) as error:
            outcomes.append(Refused(error.code, error.detail))
            continue
        out[kept] = decoded.pixels
        kept += 1
        outcomes.append(Described(decoded.content_sha256, decoded.thumbnail))
    return outcomes


def _decode(data: bytes, preprocess: Preprocessor, thumbnail_px: int, *, raw: bool = False) -> Decoded:
    picture = preprocess.decode(data)  # once, for both, unless the thumbnail is larger than what the encoder needs
    thumbnail = None
    if thumbnail_px:
        suffices = preprocess.enough is None or thumbnail_px <= preprocess.enough
        image = picture.upright().convert("RGB") if suffices else decode_image(data, preprocess.limits)
        thumbnail = make_thumbnail(image, thumbnail_px)
        while len(thumbnail) > MAX_THUMBNAIL_BYTES:
            thumbnail_px = thumbnail_px * 3 // 4
            thumbnail = make_thumbnail(image, thumbnail_px)
    return Decoded(hashlib.sha256(data).hexdigest(), preprocess.pixels(picture, raw=raw), thumbnail)


def _stand_against(rival: Rival, record: Record, data: bytes) -> None:
    refusal = rival.refusal(StoredPair(hashlib.sha256(data).hexdigest(), record.caption))
    if refusal is not None:
        raise RowRejected(*refusal)
