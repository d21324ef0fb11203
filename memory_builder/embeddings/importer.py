"""Blocks of a unit to rows of the memory: unit length, float16, every caption and key checked. numpy and pyarrow.

Takes the mapper's place where the rows are encoded already. B rows of a block, N of a unit, D embedding dim.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory import ITEMS_SCHEMA, Rows
from memory_builder.embeddings.block import Block, Embeddings, Pair
from memory_builder.encoding.mapper import Checkpoint, MappedUnit
from memory_builder.known_keys import (
    DUPLICATE,
    EARLIER,
    NO_FAULT,
    REMOVED,
    REPEATED,
    SAME_AS_EARLIER,
    TAKEN_OUT,
    KnownKeys,
    StoredPair,
)
from memory_builder.records import Rejected, RowRejected
from models.errors import TextError
from models.texts.checking import TextLimits, check_text


class Importer:
    """Takes rows over; a unit done again gives equal bytes."""

    units_at_once = 1  # shards are read from one place on, not from two

    def __init__(self, embed_dim: int, max_characters: int) -> None:
        self._embed_dim = embed_dim
        self._limits = TextLimits(max_characters=max_characters)

    def map_unit(
        self, rows: Iterable[Block], known: KnownKeys, checkpoint: Checkpoint, begun: object = None
    ) -> MappedUnit:
        """Check and normalise the rows of a unit.

        Args:
            rows: as EmbeddingsReader gives them.
            known: the keys of the memory.
            checkpoint: called after each block.
            begun: not used: reading a unit again costs no more than reading what was done of it.

        Raises:
            CorpusError: the source cannot be read on.
        """
        empty = np.empty((0, self._embed_dim), dtype=np.float16)
        images, texts = [empty], [empty]
        items: list[dict[str, str]] = []
        rejected: list[Rejected] = []
        claimed: dict[str, StoredPair | None] = {}  # the first row of a key; None if it cannot be read
        for block in rows:
            image, text = unit_length(block.image), unit_length(block.text)  # (B, D) float16; NaN where there is none
            kept, faultless = [], 0
            for row, pair in enumerate(block.pairs):
                outcome = self._outcome(pair, (image[row], text[row]), known, claimed)
                if isinstance(outcome, Rejected):
                    rejected.append(outcome)
                    faultless += outcome.code in NO_FAULT
                else:
                    items.append(outcome)
                    kept.append(row)
            images.append(image[kept])
            texts.append(text[kept])
            checkpoint(len(block.pairs), len(block.pairs) - len(kept) - faultless)
        stored = pa.Table.from_pylist(items, schema=ITEMS_SCHEMA)  # without a thumbnail: there is no image
        return MappedUnit(Rows(np.concatenate(images), np.concatenate(texts), stored), tuple(rejected))

    def seconds(self) -> Mapping[str, float]:
        """None is spent on encoding."""
        return {}

    def _outcome(
        self,
        pair: Pair | Rejected,
        sides: tuple[NDArray[np.float16], NDArray[np.float16]],
        known: KnownKeys,
        claimed: dict[str, StoredPair | None],
    ) -> dict[str, str] | Rejected:
        """The item that a row becomes, or why it becomes none; a key that is new is entered in `claimed`."""
        if isinstance(pair, Rejected):
            claimed.setdefault(pair.key, None)
            return pair
        first = pair.key not in claimed
        try:
            read = self._read(pair, sides)
        except (RowRejected, TextError) as error:
            claimed.setdefault(pair.key, None)
            why = (error.code, error.detail) if first else (DUPLICATE, EARLIER)
            return Rejected(pair.key, *why, pair.source)
        earlier = claimed.setdefault(pair.key, read)
        if known.is_removed(pair.key):
            return Rejected(pair.key, REMOVED, TAKEN_OUT, pair.source)
        if not first:
            why = (REPEATED, SAME_AS_EARLIER) if read == earlier else (DUPLICATE, EARLIER)
            return Rejected(pair.key, *why, pair.source)
        rival = known.rival(pair.key)
        refusal = None if rival is None else rival.refusal(read)
        if refusal is not None:
            return Rejected(pair.key, *refusal, pair.source)
        return {
            "key": pair.key,
            "caption": read.caption,
            "source": pair.source,
            "content_sha256": read.content_sha256,
        }

    def _read(self, pair: Pair, sides: tuple[NDArray[np.float16], NDArray[np.float16]]) -> StoredPair:
        """A row as it would be stored.

        Raises:
            RowRejected: nonfinite_embedding.
            TextError: the caption is none.
        """
        image, text = sides  # (D,) each
        for side, embedding in zip(("image", "text"), sides, strict=True):
            if np.isnan(embedding[0]):
                raise RowRejected("nonfinite_embedding", f"The {side} embedding is zero or not finite.")
        caption = _stand_in(text) if pair.caption is None else check_text(pair.caption, self._limits)
        # Exact copies of an image have equal embeddings, so these tell copies as well as the image's own bytes would:
        # training keeps a pair from retrieving a copy of itself by this hash.
        return StoredPair(pair.image_sha256 or hashlib.sha256(image.tobytes()).hexdigest(), caption)


def unit_length(embeddings: Embeddings) -> NDArray[np.float16]:
    """Rows at unit length.

    Args:
        embeddings: (B, D) float16 or float32, of any length.

    Returns:
        (B, D) float16, unit norm; NaN throughout in rows that are zero or not finite.
    """
    exact = embeddings.astype(np.float64)  # float32 could overflow when it is squared
    norms = np.linalg.norm(exact, axis=1, keepdims=True)  # (B, 1)
    usable = np.isfinite(norms) & (norms > 0)
    return np.where(usable, exact / np.where(usable, norms, 1), np.nan).astype(np.float16)


def _stand_in(text: NDArray[np.float16]) -> str:
    """What stands for a caption that nobody knows: equal for equal texts, and only for those.

    Training takes pairs of equal captions for each other's positives; one word for all would make all of them so.
    """
    return f"(no caption, text {hashlib.sha256(text.tobytes()).hexdigest()[:16]})"
