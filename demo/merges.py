"""Byte-pair merges learned from the guide's own captions, so that the tokenizer carries nobody else's vocabulary.

Writes the file that open_clip's `SimpleTokenizer` reads: gzip, one header line, one merge a line, no final newline
(an empty merge would enter the vocabulary). Imports open_clip's word pattern and nothing else of it.
"""

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import regex

from demo.randomness import Dice

# The words of open_clip's tokenizer, without its special tokens.
WORDS = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE)

Merge = tuple[str, str]


def learn_merges(captions: Iterable[str], most: int) -> list[Merge]:
    """Merge the most frequent neighbouring symbols until every word is one token, or `most` merges are made.

    Ties go to the pair that sorts first, so equal captions give equal merges.
    """
    counts = Counter(word for caption in captions for word in WORDS.findall(caption.lower()))
    words = {word: (*word[:-1], f"{word[-1]}</w>") for word in counts}
    merges: list[Merge] = []
    while len(merges) < most:
        pairs: Counter[Merge] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _merged(symbols, best) for word, symbols in words.items()}
    return merges


def write_merges(path: Path, merges: list[Merge]) -> None:
    """Write the merges file; `mtime=0` keeps its bytes the same from run to run."""
    text = "\n".join(["#version: learned from the captions of the field guide", *map(" ".join, merges)])
    path.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))


def broken_apart(words: list[str], merges: list[Merge], dice: Dice, drop: float) -> list[list[str]]:
    """Tokens of each word when a share `drop` of the merges is skipped at random.

    BPE dropout (Provilkov et al., ACL 2020, section 3.2): pieces of words are met in training, so that a name that
    somebody invents later is made of tokens that mean something.
    """
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    tokens = []
    for word in words:
        symbols: tuple[str, ...] = (*word[:-1], f"{word[-1]}</w>")
        while True:
            known = [pair for pair in pairwise(symbols) if pair in ranks]
            kept = [pair for pair in known if not dice.chance(drop)]
            if not kept:
                break
            symbols = _merged(symbols, min(kept, key=ranks.__getitem__))
        tokens.append(list(symbols))
    return tokens


def _merged(symbols: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    merged: list[str] = []
    position = 0
    while position < len(symbols):
        if symbols[position : position + 2] == pair:
            merged.append(symbols[position] + symbols[position + 1])
            position += 2
        else:
            merged.append(symbols[position])
            position += 1
    return tuple(merged)
