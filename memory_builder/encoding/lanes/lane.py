"""What lanes offer, and the step that all kinds share. B rows of a batch, n of them usable, D embedding dim."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from memory_builder.encoding.decoding import Candidate, Described, Refused
from models.errors import EncoderError

Embeddings = NDArray[np.float16]


@dataclass(frozen=True)
class Encoded:
    """A row whose image is embedded: (D,) float16, unit norm."""

    described: Described
    embedding: Embeddings


class Lanes(Protocol):
    """Encode batches in the background. Safe to call from several threads; errors arrive with the results.

    Attributes:
        ahead: batches that a caller should have in hand to keep all workers busy.
    """

    ahead: int

    def images(self, candidates: Sequence[Candidate]) -> Future[list[Encoded | Refused]]:
        """Decode and encode the images of a batch: an outcome for each row, in order."""

    def texts(self, tokens: torch.Tensor) -> Future[list[Embeddings | None]]:
        """Encode (B, L) int64 tokens: (D,) float16 of unit norm for each row, None where the encoder cannot."""

    def seconds(self) -> Mapping[str, float]:
        """Time since they began, in lane-seconds: decode (or waiting for it), copy, encode, and `total`."""

    def close(self) -> None:
        """Drop what has not begun and let go of all workers."""


def join(outcomes: Sequence[Described | Refused], embeddings: Sequence[Embeddings | None]) -> list[Encoded | Refused]:
    """Give each decoded row its embedding; a row that the encoder cannot embed is refused alone."""
    rows = iter(embeddings)
    joined: list[Encoded | Refused] = []
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            joined.append(outcome)
            continue
        embedding = next(rows)
        joined.append(unusable("image") if embedding is None else Encoded(outcome, embedding))
    return joined


def unusable(what: str) -> Refused:
    """The refusal of an image or a caption that the encoder cannot embed."""
    return Refused("nonfinite_embedding", f"The encoder's answer to the {what} is zero or not finite.")


def embed(encode: Callable[[torch.Tensor], NDArray[np.float32]], batch: torch.Tensor) -> list[Embeddings | None]:
    """Encode a batch, leaving out the rows that the encoder cannot embed.

    Returns:
        For each row (D,) float16 of unit norm, or None.

    Raises:
        EncoderError: the encoder is unusable.
    """
    kept = list(range(len(batch)))
    found = np.empty((0, 0), dtype=np.float32)
    while kept:
        try:
            found = encode(batch[kept] if len(kept) < len(batch) else batch)
            break
        except EncoderError as error:
            if error.code != "nonfinite_embedding" or not error.rows:
                raise
            kept = [row for position, row in enumerate(kept) if position not in error.rows]
    embeddings: list[Embeddings | None] = [None] * len(batch)
    for row, embedding in zip(kept, found.astype(np.float16), strict=True):
        embeddings[row] = embedding
    return embeddings
