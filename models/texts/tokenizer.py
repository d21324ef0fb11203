"""open_clip's tokenizers behind one face: bounded memory, a truthful `truncated`, and a record of what they are.

Imports torch and our own errors; the open_clip tokenizer itself is passed in.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from models.texts.byte_pairs import LONGEST_CACHED, MAX_CACHED_WORDS, BytePairs
from models.texts.checking import is_plain, text_error

# These clean a plain text word by word, so its tokens are those of its words, one after the other.
_WORDWISE = frozenset({"_clean_lower", "_clean_whitespace", "_clean_canonicalize"})


@dataclass(frozen=True)
class Tokens:
    """Texts as the text tower takes them: `ids` (B, L) int64; `truncated[i]` says that text i was cut to fit L."""

    ids: torch.Tensor
    truncated: list[bool]


class Tokenizer:
    """Texts to token ids, in any number of threads. They should have passed `models.texts.checking.check_text`."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.context_length = context_length
        self._byte_pairs = BytePairs(tokenizer) if hasattr(tokenizer, "bpe_ranks") else None
        self._lock = threading.Lock()  # for those of transformers: two threads at once are an error there
        self._words: dict[str, list[int]] | None = {} if _is_wordwise(tokenizer) else None

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenize a batch: (B, L) ids, zero-padded, cut to L with the end token kept.

        Raises:
            TextError: text_special_token, if a text would become one of the tokenizer's control tokens.
        """
        if not texts:
            return Tokens(torch.zeros(0, self.context_length, dtype=torch.long), [])
        if self._byte_pairs is not None:
            return self._with_byte_pairs(texts)
        with self._lock:
            return self._with_transformers(list(texts))

    def record(self) -> dict[str, Any]:
        """What makes two tokenizers the same: kind, SHA-256 of the vocabulary and cleaning, context length."""
        inner = self._tokenizer
        if hasattr(inner, "bpe_ranks"):
            content = {"merges": list(inner.bpe_ranks), "special": inner.all_special_ids}
        else:
            wrapped = inner.tokenizer
            content = {
                "vocabulary": sorted(wrapped.get_vocab().items()),
                "strip_sep_token": bool(getattr(inner, "strip_sep_token", False)),
                "mode": str(getattr(inner, "tokenizer_mode", "")),
            }
        content["clean"] = getattr(getattr(inner, "clean_fn", None), "__name__", "")
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return {"kind": type(inner).__name__, "sha256": digest, "context_length": self.context_length}

    def _with_byte_pairs(self, texts: Sequence[str]) -> Tokens:
        # The same ids as open_clip's own __call__, but encoded once: the count tells what was cut.
        inner, room = self._tokenizer, self.context_length - 2
        ids = np.zeros((len(texts), self.context_length), dtype=np.int64)
        truncated = []
        for row, text in enumerate(texts):
            wordwise = self._words is not None and is_plain(text)
            tokens = self._encode_words(text) if wordwise else self._encode(text)
            truncated.append(len(tokens) > room)
            kept = [inner.sot_token_id, *tokens[:room], inner.eot_token_id]
            ids[row, : len(kept)] = kept
        return Tokens(torch.from_numpy(ids), truncated)

    def _encode(self, text: str) -> list[int]:
        assert self._byte_pairs is not None
        tokens = self._byte_pairs(text)
        if not set(self._tokenizer.all_special_ids).isdisjoint(tokens):
            raise text_error("text_special_token")
        return tokens

    def _encode_words(self, text: str) -> list[int]:
        """As `_encode` for a plain text; ten times as fast where its words are known, as those of captions are."""
        assert self._words is not None
        tokens: list[int] = []
        for word in text.split():
            known = self._words.get(word)
            if known is None:
                known = self._encode(word)
                if len(self._words) >= MAX_CACHED_WORDS:
                    self._words.clear()
                if len(word) <= LONGEST_CACHED:
                    self._words[word] = known
            tokens += known
        return tokens

    def _with_transformers(self, texts: list[str]) -> Tokens:
        inner = self._tokenizer
        clean = getattr(inner, "clean_fn", str)
        own = [inner.tokenizer(clean(text), add_special_tokens=False).input_ids for text in texts]
        control = set(inner.tokenizer.all_special_ids) - {inner.tokenizer.unk_token_id}  # any unknown word becomes that
        if not control.isdisjoint(chain.from_iterable(own)):
            raise text_error("text_special_token")
        room = self.context_length - inner.tokenizer.num_special_tokens_to_add()
        ids = inner(texts, context_length=self.context_length)
        return Tokens(ids.long(), [len(one) > room for one in own])


def _is_wordwise(tokenizer: Any) -> bool:
    """Whether open_clip's byte pairs clean as we know, and no control token reaches over a space."""
    if not hasattr(tokenizer, "bpe_ranks") or getattr(tokenizer.clean_fn, "__name__", "") not in _WORDWISE:
        return False
    return not any(" " in tokenizer.decoder[token] for token in tokenizer.all_special_ids)
