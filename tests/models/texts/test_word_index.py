"""The words of many texts, found by a name's words."""

import random

import numpy as np
import pytest

from models.texts import word_index
from models.texts.names import joined_words, words_of
from models.texts.word_index import WordIndex

TEXTS = ["Wren on a rock", "the rock wren, wren", "AX-4812 shoe", "ax 4812", "C++ and c", "", "Чижик 7", "白い運動靴"]


def holding(index: WordIndex, name: str) -> list[int] | None:
    found = index.holding(joined_words(name))
    return None if found is None else found.tolist()


def holding_in_parts(index: WordIndex, name: str) -> list[int] | None:
    found = index.holding(words_of(name), in_parts=True)
    return None if found is None else found.tolist()


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_texts_are_found_by_all_words_of_a_name(cut: int) -> None:
    index = WordIndex(TEXTS[start : start + cut] for start in range(0, len(TEXTS), cut))
    assert holding(index, "ROCK wren") == [0, 1]
    assert holding(index, "ax-4812") == [2] and holding(index, "AX") == [3]
    assert holding(index, "C") == [4] and holding(index, "C++") == [4] and holding(index, "C#") == []
    assert holding(index, "чижик") == [6] and holding(index, "運動靴") == [7]
    assert holding(index, "wren shoe") == [] and holding(index, "kingfisher") == []


def test_words_with_hyphens_are_found_as_they_are_and_by_their_parts() -> None:
    index = WordIndex([["AX-4812 shoe", "ax 4812", "ax_4812", "ax\u20114812", "4812-ax", "AX", "4812 by ax-7"]])
    for name in ("AX-4812", "ax_4812", "AX\u20104812"):
        assert holding(index, name) == [0, 2, 3]
    assert holding(index, "ax 4812") == [1] and holding(index, "AX") == [1, 5] and holding(index, "4812") == [1, 6]
    assert holding_in_parts(index, "AX-4812") == holding_in_parts(index, "4812 ax") == [0, 1, 2, 3, 4, 6]


def test_of_no_texts_nothing_is_found() -> None:
    assert holding(WordIndex([]), "wren") == [] and holding(WordIndex([[], ["", "!"]]), "wren") == []


def test_words_of_too_many_texts_tell_nothing_and_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_index, "MOST_TEXTS", 3)
    index = WordIndex([["a wren"] * 3 + ["a duck", "a a a duck"]])
    assert holding(index, "a") is None
    assert holding(index, "a duck") == [3, 4] and holding(index, "wren") == [0, 1, 2]
    assert index.bytes == 8 * 5


def test_every_text_that_mentions_a_name_is_found_as_one_would_find_it_by_reading() -> None:
    dice = random.Random(3)
    words = [f"{letter}{number}" for letter in "abcdefgh" for number in range(12)]
    texts = [" ".join(dice.choices(words, k=6)) for _ in range(4000)]
    index = WordIndex([texts[:1234], texts[1234:]])
    for _ in range(200):
        wanted = set(dice.choices(words, k=2))
        by_reading = [place for place, text in enumerate(texts) if wanted <= set(text.split())]
        found = index.holding(tuple(wanted))
        assert found is not None and found.tolist() == by_reading and found.dtype == np.int64
