"""The short way of plain texts gives what the long way gives. Twins: open_clip's tokenizer, and the full check."""

import random
import sys
import unicodedata
from pathlib import Path

import numpy as np
import open_clip
import pytest

from demo.pretraining.material import captions
from models.errors import TextError
from models.texts import checking
from models.texts import tokenizer as tokenizer_module
from models.texts.checking import TextLimits, check_text, is_plain
from models.texts.tokenizer import Tokenizer

CLEANINGS = ("lower", "whitespace", "canonicalize")
# What might be read otherwise in a text than in its words: spaces of all kinds, entities, contractions, control tokens.
PIECES = [
    *("a photo of", "Bird", "BIRD", "bird", "supercalifragilistic", "x" * 60, "don't", "IT'S", "we'll", "'s", "''"),
    *(
        "0",
        "42",
        "3.14",
        "1st",
        "x2",
        "_",
        "snake_case",
        "...",
        "?!",
        "-",
        "--",
        "(",
        ")",
        "#",
        "@",
        "/",
        "\\",
        "~",
        "|",
    ),
    *(" ", "  ", "   ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1f", "\x00", "\x1b[31m", "\x7f", "\x85", "\xa0"),
    *("&", "&amp;", "&lt;", "&lt;b&gt;", "&amp;lt;", "&nbsp;", "&#39;", "&;", "<", ">", "<b>", "</b>", "< b >"),
    *("<end_of_text>", "<start_of_text>", "<END_of_text>", "<end_of_text", "end_of_text>", "<end _of_text>"),
    *(
        "<|endoftext|>",
        "<|startoftext|>",
        "<|",
        "|>",
        "é",
        "e\u0301",
        "\u201cquoted\u201d",
        "ﬁ",
        "\uff21",
        "Ã©",
        "鳥",
        "🐦",
    ),
    *("\u200b", "\ufeff", "\u2028", "\ud800"),
]


def generated(count: int) -> list[str]:
    """Texts of these pieces, with and without spaces between them, and of random ASCII; up to over 2,000 characters."""
    dice = random.Random(5)
    texts = ["", " ", "   ", "bird " * 500, "x" * 2000, "1" * 2000, "'s" * 300]
    for _ in range(count // 2):
        texts.append(dice.choice(["", " "]).join(dice.choices(PIECES, k=dice.randint(1, 12))))
        ascii_characters = [chr(code) for code in range(dice.choice([0, 32, 32, 32]), 127)]
        characters = "".join(dice.choices(ascii_characters, k=dice.randint(0, 120)))
        texts.append(characters.replace("&", "and") if dice.random() < 0.8 else characters)
    return texts


def real_texts(shared_data: Path) -> list[str]:
    """Names of classes and descriptions of products, as people wrote them."""
    names = np.load(shared_data / "clip_vitb32" / "class_name_texts.npz")["name"]
    files = sorted((shared_data / "grocery" / "iconic-images-and-descriptions").rglob("*_Description.txt"))
    described = [path.read_text(encoding="utf-8-sig") for path in files]
    sentences = [sentence for text in described for sentence in text.split(".")]
    assert len(names) > 2000 and len(described) > 50
    return [*map(str, names), *(f"a photo of a {name}." for name in names), *described, *sentences]


def tokenizers(cleaning: str) -> tuple[Tokenizer, open_clip.SimpleTokenizer]:
    """Ours around open_clip's own vocabulary, and open_clip's alone."""
    return Tokenizer(open_clip.SimpleTokenizer(clean=cleaning), 77), open_clip.SimpleTokenizer(clean=cleaning)


def assert_same_tokens(texts: list[str], cleaning: str) -> int:
    """Compare each text; how many of them went the short way."""
    ours, theirs = tokenizers(cleaning)
    control = set(theirs.all_special_ids)
    for text in texts:
        try:
            expected = theirs.encode(text)
        except UnicodeEncodeError:  # a lone surrogate: nobody can
            continue
        if not control.isdisjoint(expected):
            with pytest.raises(TextError, match="control token"):
                ours([text])
            continue
        found = ours([text])
        assert found.ids.tolist() == theirs([text]).tolist(), repr(text)
        assert found.truncated == [len(expected) > 75], repr(text)
    return sum(map(is_plain, texts))


@pytest.mark.parametrize("cleaning", CLEANINGS)
def test_generated_texts_have_open_clips_tokens(cleaning: str) -> None:
    plain = assert_same_tokens(generated(4000), cleaning)
    assert 1000 < plain < 3500  # both ways were gone


def test_the_demos_captions_have_open_clips_tokens() -> None:
    texts = [text for number in range(500) for text in captions(number)]
    assert assert_same_tokens(texts, "lower") == len(texts)


def test_real_texts_have_open_clips_tokens(shared_data: Path) -> None:
    texts = real_texts(shared_data)
    assert assert_same_tokens(texts, "lower") > 0.9 * len(texts)


@pytest.mark.parametrize("characters", [50, 2000])
def test_the_short_check_refuses_what_the_long_one_refuses(monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    def verdicts() -> list[str]:
        found = []
        for text in generated(4000):
            try:
                found.append(f"accepted: {check_text(text, TextLimits(characters))}")
            except TextError as error:
                found.append(error.code)
        return found

    short = verdicts()
    monkeypatch.setattr(checking, "is_plain", lambda _: False)
    assert short == verdicts()
    assert len(set(short) & {"text_empty", "text_too_long", "text_control_character", "text_special_token"}) == 4


def test_J16_control_characters_are_unicodes_own() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        assert bool(checking._CONTROL.search(character)) == (unicodedata.category(character) == "Cc")
        assert bool(checking._SURROGATE.search(character)) == (unicodedata.category(character) == "Cs")


def test_a_tokenizer_that_cleans_otherwise_goes_the_long_way() -> None:
    theirs = open_clip.SimpleTokenizer()
    theirs.clean_fn = lambda text: text.replace("red bird", "duck")
    assert Tokenizer(theirs, 77)(["a red bird"]).ids.tolist() == theirs(["a red bird"]).tolist()


def test_a_control_token_with_a_space_goes_the_long_way() -> None:
    theirs = open_clip.SimpleTokenizer(additional_special_tokens=["<two words>"])
    text = "a <two words> b"
    assert Tokenizer(theirs, 77)([text]).ids.tolist() == theirs([text]).tolist()


def test_J20_the_words_kept_are_bounded_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "MAX_CACHED_WORDS", 100)
    ours, theirs = tokenizers("lower")
    for start in range(0, 1000, 10):
        text = " ".join(f"word{number}" for number in range(start, start + 10)) + " " + "x" * 33
        assert ours([text]).ids.tolist() == theirs([text]).tolist()
        assert ours._words is not None
        assert len(ours._words) <= 100
        assert max(map(len, ours._words), default=0) <= 32
