"""Different captions of a unit to embeddings, captions of like length together. Imports torch within its functions.

A text tower works as long as the longest text of its batch needs: a batch of short captions costs a fraction of a mixed
one. Where texts are packed it works for each token alone. M captions, L tokens, D embedding dim.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory_builder.encoding.decoding import Refused
from models.errors import TextError

if TYPE_CHECKING:
    import torch

    from memory_builder.encoding.lanes.lane import Lanes
    from models.encoder import Encoder

_TOKENS_A_CAPTION = 16  # of most; a batch of long ones has fewer of them


class CaptionEncoder:
    """Tokenizes and encodes captions; safe to share between threads."""

    def __init__(self, encoder: "Encoder", lanes: "Lanes", batch_size: int) -> None:
        self._encoder, self._lanes, self._batch_size = encoder, lanes, batch_size

    def encode(
        self, captions: Sequence[str], heard: Callable[[], None]
    ) -> tuple[dict[str, NDArray[np.float16]], dict[str, Refused]]:
        """Embed captions that passed `check_text`.

        Args:
            captions: M different ones; which of them share a batch depends on them alone.
            heard: called between batches; may raise to stop.

        Returns:
            (D,) float16 of unit norm by caption, and why the others have none.

        Raises:
            EncoderError: the encoder is unusable.
        """
        from memory_builder.encoding.lanes.lane import unusable

        texts: dict[str, NDArray[np.float16]] = {}
        accepted, tokens, refused = self._tokenize(captions, heard)
        batches = self._batches(tokens) if accepted else []
        futures = [self._lanes.texts(tokens[batch]) for batch in batches]
        try:
            for batch, future in zip(batches, futures, strict=True):
                for position, embedding in zip(batch, future.result(), strict=True):
                    caption = accepted[position]
                    if embedding is None:
                        refused[caption] = unusable("caption")
                    else:
                        texts[caption] = embedding
                heard()
        finally:
            for future in futures:
                future.cancel()
        return texts, refused

    def _batches(self, tokens: "torch.Tensor") -> list[list[int]]:
        """Rows of (M, L) tokens that share a batch: as many texts in each or, where texts are packed, as many tokens.

        A CPU keeps kernels for each number of tokens: batches of nearly the same number need but a few.
        """
        lengths: list[int] = tokens.count_nonzero(dim=1).tolist()
        if self._encoder.packs_texts:
            return _by_length(lengths, lengths, self._batch_size * _TOKENS_A_CAPTION)
        return _by_length(lengths, [1] * len(lengths), self._batch_size)

    def _tokenize(
        self, captions: Sequence[str], heard: Callable[[], None]
    ) -> tuple[list[str], "torch.Tensor", dict[str, Refused]]:
        """The captions that the tokenizer takes, their (M, L) int64 tokens, and why it does not take the others."""
        import torch

        accepted: list[str] = []
        parts: list[torch.Tensor] = []
        refused: dict[str, Refused] = {}
        for start in range(0, len(captions), self._batch_size):
            heard()
            batch = list(captions[start : start + self._batch_size])
            try:
                ids = self._encoder.tokenize(batch).ids
            except TextError:  # it may know control tokens that check_text does not
                found = self._refused(batch)
                refused.update(found)
                batch = [caption for caption in batch if caption not in found]
                ids = self._encoder.tokenize(batch).ids
            accepted += batch
            parts.append(ids)
        return accepted, torch.cat(parts) if parts else torch.empty((0, 0), dtype=torch.int64), refused

    def _refused(self, captions: list[str]) -> dict[str, Refused]:
        """Those of a batch that the tokenizer does not take."""
        refused = {}
        for caption in captions:
            try:
                self._encoder.tokenize([caption])
            except TextError as error:
                refused[caption] = Refused(error.code, error.detail)
        return refused


def _by_length(lengths: Sequence[int], costs: Sequence[int], budget: int) -> list[list[int]]:
    """Captions (M,), shortest first, in batches whose costs stay within the budget; one that costs more is alone."""
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):  # equal lengths keep their order
        if not batches or costs[row] > room:
            batches.append([])
            room = budget
        batches[-1].append(row)
        room -= costs[row]
    return batches
