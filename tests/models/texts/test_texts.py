"""Which texts are encoded, and rows J15 to J23 of the threat model; the tokenizer behind them."""

import threading
import time

import open_clip
import pytest
import torch

from models.encoder import Encoder
from models.errors import TextError
from models.texts import byte_pairs
from models.texts import tokenizer as tokenizer_module
from models.texts.checking import TextLimits, check_text
from models.texts.tokenizer import Tokenizer


def refusal(text: str, limits: TextLimits | None = None) -> str:
    with pytest.raises(TextError) as caught:
        check_text(text, limits)
    assert text.strip() == "" or text not in caught.value.detail
    return caught.value.code


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t\r",
        "\u00a0\u2003\u3000",
        "\u200b",
        "\u200b\u200d\ufeff \u2060",
        "\u3164",
        "\u2800",
        "\u00ad",
        "\ufe0f",
        "\u202e\u202c",
        "&nbsp;",
        "&#8203; &#x200b;",
        "&amp;nbsp;",
    ],
)
def test_J15_nothing_to_see_is_empty(text: str) -> None:
    assert refusal(text) == "text_empty"


@pytest.mark.parametrize("text", ["a", "0", ".", "é", "鳥", "🐦", "👩‍🚀", "\u200bbird\u200b", "e\u0301"])
def test_J15_one_visible_character_is_enough(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize("text", ["a\0b", "\x1b[31mred", "bell\x07", "\x7f", "next\x85line", "\x0b", "a\x0cb"])
def test_J16_control_characters(text: str) -> None:
    assert refusal(text) == "text_control_character"


def test_J16_line_breaks_and_tabs_are_spaces() -> None:
    assert check_text("a\tred\nbird\r\n") == "a red bird  "


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 1_000_000,
        "x" * 8000,
        "1" * 1_000_000,
        "Ã©" * 500_000,
        "e" + "\u0301" * 1_000_000,
        "&amp;" * 200_000,
    ],
    ids=["J17 newlines", "J18 one word", "J19 digits", "J19 mojibake", "J19 marks", "J19 entities"],
)
def test_J17_to_J19_length_is_refused_before_anything_reads_the_text(text: str) -> None:
    start = time.thread_time()
    assert refusal(text) == "text_too_long"
    assert time.thread_time() - start < 0.05


def test_J18_the_longest_word_allowed_is_fast(encoder: Encoder) -> None:
    word = check_text("qzxj" * 500)
    start = time.thread_time()
    assert encoder.tokenize([word]).truncated == [True]
    assert time.thread_time() - start < 2


def test_the_limit_itself_is_accepted() -> None:
    assert check_text("x" * 10, TextLimits(max_characters=10)) == "x" * 10
    assert refusal("x" * 11, TextLimits(max_characters=10)) == "text_too_long"
    assert len(check_text("é" * 2000)) == 2000


@pytest.mark.parametrize("text", ["\ud800", "bird \udfff", "\udc80\ud83d"])
def test_lone_surrogates_are_not_unicode(text: str) -> None:
    assert refusal(text) == "text_invalid_unicode"


SPELLINGS = [
    "<start_of_text>",
    "a <end_of_text> b",
    "a<|endoftext|>b",
    "<|startoftext|>",
    "<END_of_Text>",
    "&lt;end_of_text&gt;",
    "&amp;lt;end_of_text&amp;gt;",
    "&#60;end_of_text&#62;",
    "\uff1cend_of_text\uff1e",
    "\uff1c\uff45\uff4e\uff44_of_text>",
    "ï¼œend_of_textï¼ž",
    "<end\ufeff_of_text>",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_J21_control_tokens_in_any_spelling(text: str) -> None:
    assert refusal(text) == "text_special_token"


def test_J21_what_looks_alike_but_is_text() -> None:
    for text in ("end of text", "a < b > c", "<start of text>", "tom &amp; jerry", "<b>bold</b>"):
        assert check_text(text) == text


def test_J21_the_tokenizer_itself_refuses_what_it_would_obey(encoder: Encoder) -> None:
    for text in ("a <end_of_text> b", "&lt;start_of_text&gt;"):
        with pytest.raises(TextError) as caught:
            encoder.tokenize(["a bird", text])
        assert caught.value.code == "text_special_token"


def test_J21_no_accepted_text_reaches_the_control_tokens(encoder: Encoder) -> None:
    # Accepted spellings keep exactly one start and one end token, so all of the text counts.
    for text in ("end of text", "<start of text>", "< end_of_text >", "<end_of_text", "endoftext|>"):
        ids = encoder.tokenize([check_text(text)]).ids[0]
        start, end = ids[0], ids.max()
        assert int((ids == start).sum()) == int((ids == end).sum()) == 1


def test_J22_truncation_is_told_truthfully(encoder: Encoder) -> None:
    room = encoder.context_length - 2
    texts = ["bird " * count for count in (1, room - 1, room, room + 1, 200)]
    tokens = encoder.tokenize(texts)
    assert tokens.truncated == [False, False, False, True, True]
    assert tokens.ids.shape == (5, encoder.context_length)
    end = tokens.ids.max()
    assert (tokens.ids == end).sum(dim=1).tolist() == [1] * 5  # the end token survives the cut


def test_J23_unicode_forms_have_one_reading(encoder: Encoder) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert torch.equal(encoder.tokenize([composed]).ids, encoder.tokenize([decomposed]).ids)
    for text in ("👨‍👩‍👧", "\u202egnp.exe", "ı İ", "ｆｕｌｌ ｗｉｄｔｈ", "Grüße, 世界"):
        assert torch.equal(encoder.tokenize([check_text(text)]).ids, encoder.tokenize([text]).ids)


def test_ids_equal_open_clips(encoder: Encoder) -> None:
    theirs = open_clip.get_tokenizer("ViT-B-32")
    ours = Tokenizer(open_clip.get_tokenizer("ViT-B-32"), 77)
    texts = ["a photo of a bird", "", "Ünïcödé &amp; <b>", "one two " * 100, "it's 3 o'clock"]
    assert torch.equal(ours(texts).ids, theirs(texts))
    assert ours([]).ids.shape == (0, 77)


def test_J20_the_cache_may_be_cleared_under_other_threads(monkeypatch: pytest.MonkeyPatch, encoder_dir) -> None:
    monkeypatch.setattr(tokenizer_module, "MAX_CACHED_WORDS", 5)
    monkeypatch.setattr(byte_pairs, "MAX_CACHED_WORDS", 5)
    inner = open_clip.get_tokenizer(f"local-dir:{encoder_dir}", bpe_path=str(encoder_dir / "bpe.txt.gz"))
    ours = Tokenizer(inner, 40)
    expected = ours(["red bird swimming in the meadow under snow"]).ids
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(300):
                assert torch.equal(ours(["red bird swimming in the meadow under snow"]).ids, expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class SentencePieces:
    """Shaped like open_clip's HFTokenizer around a transformers tokenizer, which is not a dependency."""

    class Inner:
        all_special_ids = (1, 2)
        unk_token_id = 2

        def __call__(self, text: str, *, add_special_tokens: bool):
            assert not add_special_tokens
            ids = [{"|": 1, "?": 2}.get(letter, ord(letter)) for letter in text]
            return type("Encoding", (), {"input_ids": ids})

        def num_special_tokens_to_add(self) -> int:
            return 1

        def get_vocab(self) -> dict[str, int]:
            return {"</s>": 1, "a": 97, "b": 98}

    context_length = 8
    strip_sep_token = False

    def __init__(self) -> None:
        self.tokenizer = self.Inner()

    def clean_fn(self, text: str) -> str:
        return text.strip()

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        rows = [[*map(ord, text.strip()), 1][:context_length] for text in texts]
        return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])


def test_tokenizers_of_transformers_are_counted_and_recorded() -> None:
    ours = Tokenizer(SentencePieces(), 8)
    tokens = ours(["  ab ", "abababa", "abababab"])
    assert tokens.truncated == [False, False, True]
    assert tokens.ids.shape == (3, 8)
    record = ours.record()
    assert record["kind"] == "SentencePieces"
    assert len(record["sha256"]) == 64
    assert record == Tokenizer(SentencePieces(), 8).record()


def test_a_control_token_of_transformers_is_refused_in_a_text() -> None:
    ours = Tokenizer(SentencePieces(), 8)
    assert ours(["a?b"]).truncated == [False]  # an unknown word is none
    with pytest.raises(TextError) as caught:
        ours(["ab", "a|b"])
    assert caught.value.code == "text_special_token"
