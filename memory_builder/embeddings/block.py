"""Rows whose embeddings are known, as a shard gives them. numpy and records.py. B rows of a block, D embedding dim."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_builder.records import Rejected

Embeddings: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pair:
    """What is known of one image-text pair beside its embeddings.

    Attributes:
        key: global key, as in records.Record.
        caption: not yet checked; None if the source has no captions at all.
        source: where the image or the row came from, for people.
        image_sha256: hex, of the image's file; empty if the source does not know it.
    """

    key: str
    caption: str | None
    source: str
    image_sha256: str = ""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a shard.

    Attributes:
        image, text: (B, D) float16 or float32, of any length, as the files have them.
        pairs: one for each row, or why the row cannot be used.
    """

    image: Embeddings
    text: Embeddings
    pairs: Sequence[Pair | Rejected]
