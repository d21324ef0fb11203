"""Byte pairs: open_clip's ids for any word of any vocabulary, and a long word costs nobody a second."""

import gzip
import random
import time
from pathlib import Path

import open_clip
import pytest
from open_clip.tokenizer import SimpleTokenizer

from models.texts import byte_pairs
from models.texts.byte_pairs import BytePairs

LETTERS = "aeths"


def words(seed: int, count: int) -> list[str]:
    """Words of few letters, so that much is merged, and of all that Unicode has."""
    dice = random.Random(seed)
    kinds = [LETTERS, "abcdefghijklmnopqrstuvwxyz", "aé鳥🐦ß1!'", "lol a's the 12 "]
    return ["".join(dice.choices(dice.choice(kinds), k=dice.choice([1, 2, 3, 8, 40, 150]))) for _ in range(count)]


def drawn_vocabulary(path: Path, seed: int) -> SimpleTokenizer:
    """Merges in a random order: a pair may have been learned before one that makes its parts in another way."""
    dice = random.Random(seed)
    ends = [*LETTERS, *(letter + "</w>" for letter in LETTERS)]
    known, merges = list(LETTERS), []
    for _ in range(60):
        first, second = dice.choice(known), dice.choice([*known, *ends])
        if (first, second) not in merges:
            merges.append((first, second))
            if not second.endswith("</w>"):
                known.append(first + second)
    dice.shuffle(merges)
    lines = ["#version", *(" ".join(pair) for pair in merges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return SimpleTokenizer(bpe_path=str(path))


def test_ids_are_open_clips() -> None:
    theirs = open_clip.get_tokenizer("ViT-B-32")
    ours = BytePairs(theirs)
    for word in words(0, 1500):
        assert ours(word) == theirs.encode(word), word


@pytest.mark.parametrize("seed", range(8))
def test_ids_are_open_clips_whatever_was_learned_first(tmp_path: Path, seed: int) -> None:
    theirs = drawn_vocabulary(tmp_path / "bpe.txt.gz", seed)
    ours = BytePairs(theirs)
    for word in words(seed, 300):
        assert ours(word) == theirs.encode(word), word


@pytest.mark.parametrize("letters", ["abcdefghijklmnopqrstuvwxyz", "é鳥🐦", "a"])
def test_a_word_of_2000_letters_takes_milliseconds(letters: str) -> None:
    ours = BytePairs(open_clip.get_tokenizer("ViT-B-32"))
    word = "".join(random.Random(0).choices(letters, k=2000))
    fastest = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        ours(word)
        fastest = min(fastest, time.perf_counter() - started)
    assert fastest < 0.1


def test_J20_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pairs, "MAX_CACHED_WORDS", 100)
    theirs = open_clip.get_tokenizer("ViT-B-32")
    ours = BytePairs(theirs)
    known = set()
    for word in words(1, 600):
        assert ours(word) == theirs.encode(word)
        assert len(ours._known) <= 100 and all(len(one) <= byte_pairs.LONGEST_CACHED for one in ours._known)
        known |= set(ours._known)
    assert len(known) > 300  # else it was never full
