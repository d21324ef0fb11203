"""Raw images and texts through the encoder, in batches, with progress. Rows that cannot be used are counted by code.

Imports models and the builder's decoding, so that a file gives here what it gives in a memory.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evaluation.errors import EvaluationError
from evaluation.refinement import FloatArray
from memory_builder.encoding.decoding import Decoded, decode
from memory_builder.records import Record, RowRejected
from models.encoder import Encoder
from models.errors import InputError

THUMBNAIL_PX = 96
_BATCH = 64
_THREADS = 4

Report = Callable[[str, int, int], None]  # what is encoded, how many are done, how many there are


@dataclass(frozen=True)
class EncodedImages:
    """Images that could be used.

    Attributes:
        embeddings: (n, D) float32, unit norm.
        kept: (n,) int64, which of the records they are.
        thumbnails: (n,) JPEG bytes.
        rejected_rows: the others, each with its code.
    """

    embeddings: FloatArray
    kept: np.ndarray
    thumbnails: tuple[bytes, ...]
    rejected_rows: Mapping[int, str]

    @property
    def rejected(self) -> Counter[str]:
        """How many were rejected, by code."""
        return Counter(self.rejected_rows.values())


def encode_images(records: Sequence[Record], encoder: Encoder, report: Report) -> EncodedImages:
    """Embed the image of each record.

    Raises:
        EncoderError: the encoder answered with something unusable.
    """

    def attempt(record: Record) -> Decoded | str:
        try:
            return decode(record, encoder.preprocess, THUMBNAIL_PX)
        except (RowRejected, InputError) as refused:
            return refused.code

    parts = [np.empty((0, encoder.embed_dim), dtype=np.float32)]
    kept, thumbnails, rejected = list[int](), list[bytes](), dict[int, str]()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as threads:
        for start in range(0, len(records), _BATCH):
            batch = list(threads.map(attempt, records[start : start + _BATCH]))
            good = [(start + row, one) for row, one in enumerate(batch) if isinstance(one, Decoded)]
            rejected.update({start + row: one for row, one in enumerate(batch) if isinstance(one, str)})
            if good:
                parts.append(encoder.encode_image(torch.stack([one.pixels for _, one in good])))
            kept += [row for row, _ in good]
            thumbnails += [one.thumbnail or b"" for _, one in good]
            report("images", start + len(batch), len(records))
    return EncodedImages(np.concatenate(parts), np.array(kept, dtype=np.int64), tuple(thumbnails), rejected)


def encode_usable(path: Path, records: Sequence[Record], encoder: Encoder, report: Report) -> EncodedImages:
    """The same, of a corpus of which something must be usable.

    Raises:
        EvaluationError: nothing_usable.
        EncoderError: the encoder answered with something unusable.
    """
    images = encode_images(records, encoder, report)
    if not len(images.kept):
        codes = ", ".join(f"{count:,} x {code}" for code, count in images.rejected.items()) or "it has no row"
        raise EvaluationError("nothing_usable", f"{path}: none of its images can be used ({codes}).")
    return images


def encode_texts(texts: Sequence[str], encoder: Encoder, report: Report) -> FloatArray:
    """Embed texts that passed `check_text`: (M, D) float32, unit norm; each different one once.

    Raises:
        TextError: text_special_token.
        EncoderError: the encoder answered with something unusable.
    """
    distinct = list(dict.fromkeys(texts))
    parts = [np.empty((0, encoder.embed_dim), dtype=np.float32)]
    for start in range(0, len(distinct), _BATCH):
        batch = distinct[start : start + _BATCH]
        parts.append(encoder.encode_text(encoder.tokenize(batch).ids))
        report("texts", start + len(batch), len(distinct))
    position = {text: row for row, text in enumerate(distinct)}
    rows: FloatArray = np.concatenate(parts)[[position[text] for text in texts]]
    return rows
