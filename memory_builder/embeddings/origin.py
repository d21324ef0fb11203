"""Which encoder made the embeddings, and how that is known: opened and checked, trusted, or declared by a name only.

Imports models (encoder) for the check and memory's encoder record.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memory import undeclared_encoder
from memory_builder.embeddings.reader import EmbeddingsReader, check_same_dim
from memory_builder.errors import ConfigError, OriginError
from models.errors import TextError
from models.texts.checking import check_text

if TYPE_CHECKING:
    from models.encoder import Encoder

LEAST_COSINE = 0.99  # other precision or library of the same encoder stays above; other weights are far below
_MOST_CAPTIONS = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True)
class Origin:
    """The encoder of cached embeddings.

    Attributes:
        encoder: its record, for the manifest.
        known_by: checked (stored texts were encoded again), unchecked (there are no captions), trusted (the check was
            waived) or undeclared (a name only); the manifest says it too.
        captions: how many were compared.
        median_cosine: of the comparison; NaN without one.
    """

    encoder: Mapping[str, Any]
    known_by: str
    captions: int = 0
    median_cosine: float = float("nan")

    @property
    def encoded_with(self) -> dict[str, str]:
        """What the manifest says of the computation: not ours, so device and precision are unknown."""
        return {"device": "unknown", "dtype": "unknown", "embeddings": self.known_by}

    @classmethod
    def undeclared(cls, name: str, embed_dim: int) -> "Origin":
        """An encoder that nobody can open here, by a name of the user's choice.

        Raises:
            ConfigError: the name is not one word.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"The encoder name {name!r} is not one word of letters, digits and . _ + -: choose one like "
                "clip-vit-b32-openai, and the same for all embeddings of that encoder."
            )
        return cls(undeclared_encoder(name, embed_dim), "undeclared")

    @classmethod
    def opened(cls, encoder: "Encoder", readers: Sequence[EmbeddingsReader], *, trust: bool = False) -> "Origin":
        """An encoder that was opened, after comparing what it makes of some captions with the texts stored for them.

        Args:
            encoder: said to have made the embeddings.
            readers: the sources; images cannot be compared, for they are not there.
            trust: do not compare.

        Raises:
            CorpusError: embeddings_mismatch, if D is another.
            OriginError: the encoder is not the one that made them.
        """
        for reader in readers:
            check_same_dim((f"The encoder {encoder.name}", encoder.embed_dim), (reader.name, reader.embed_dim))
        record = encoder.fingerprint.record()
        if trust:
            return cls(record, "trusted")
        cosines = _cosines(encoder, readers)
        if not cosines.size:
            return cls(record, "unchecked")
        median = float(np.median(cosines))
        if not median >= LEAST_COSINE:
            raise OriginError(
                f"The text embeddings are not those of {encoder.name}: of {cosines.size} captions encoded again, the "
                f"median cosine to the stored embedding is {median:.3f} (at least {LEAST_COSINE} expected). Name the "
                "encoder that made them with --model and --pretrained. If the texts are means over many prompts, or "
                "were made from other words than the captions, they cannot match: --trust-model skips this check."
            )
        return cls(record, "checked", int(cosines.size), median)


def _cosines(encoder: "Encoder", readers: Sequence[EmbeddingsReader]) -> NDArray[np.float32]:
    """Of up to 32 captions: cosine of the text stored for it and of what the encoder makes of it, (n,)."""
    each = -(-_MOST_CAPTIONS // len(readers))
    sample = [pair for reader in readers if reader.has_captions for pair in reader.sample(each)]
    found = []
    for caption, stored in sample[:_MOST_CAPTIONS]:
        norm = np.linalg.norm(stored)
        try:
            tokens = encoder.tokenize([check_text(caption)]).ids
        except TextError:
            continue  # the row will be rejected with its code
        if np.isfinite(norm) and norm > 0:
            found.append(encoder.encode_text(tokens)[0] @ stored / norm)
    return np.array(found, dtype=np.float32)
