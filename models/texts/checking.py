"""Which texts are encoded: one rule for the service and the builder, checked before any tokenizer sees the text.

Imports ftfy, the same that open_clip's tokenizers clean with; no torch.
"""

import html
import re
import unicodedata
from dataclasses import dataclass

import ftfy

from models.errors import TextError

# A tokenizer turns these into control tokens: what follows an end of text would silently not count.
SPECIAL_TOKENS = ("<start_of_text>", "<end_of_text>", "<|startoftext|>", "<|endoftext|>")

_DETAILS = {
    "text_empty": "The text is empty or has only white space and invisible characters.",
    "text_too_long": "The text has more characters than the limit.",
    "text_invalid_unicode": "The text is not valid Unicode (a lone surrogate); a file that is not UTF-8 reads so.",
    "text_control_character": "The text has a control character other than tab, line feed and carriage return.",
    "text_special_token": "The text has a control token of the tokenizer, such as <end_of_text>.",
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # all of Unicode's category Cc
_TO_SPACE = str.maketrans("\t\n\r", "   ")
# Invisible, though Unicode does not class them as format characters: joiner, fillers, blanks, variation selectors.
_INVISIBLE = frozenset(map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0))) | frozenset(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
_INVISIBLE_CATEGORIES = frozenset({"Cf", "Zs", "Zl", "Zp"})


@dataclass(frozen=True)
class TextLimits:
    """How long a text may be.

    A tokenizer holds the interpreter while it works (a word of n letters costs n², a megabyte seconds), so length is
    refused before it; what is longer than the model's context is cut and reported, not refused.
    """

    max_characters: int = 2000


def text_error(code: str) -> TextError:
    """The error of `code`, with its fixed sentence."""
    return TextError(code, _DETAILS[code])


def check_text(text: str, limits: TextLimits | None = None) -> str:
    """Accept a text, or say why not.

    Returns:
        The text with tab, line feed and carriage return as spaces; nothing else is changed, for normalisation is the
        tokenizer's.

    Raises:
        TextError: text_empty, text_too_long, text_invalid_unicode, text_control_character, text_special_token.
    """
    if len(text) > (limits or TextLimits()).max_characters:
        raise text_error("text_too_long")
    if is_plain(text) and "<" not in text and text.strip():  # nearly every caption: nothing below finds anything
        return text
    if _SURROGATE.search(text):
        raise text_error("text_invalid_unicode")
    text = text.translate(_TO_SPACE)
    if _CONTROL.search(text):
        raise text_error("text_control_character")
    read = _as_the_tokenizer_reads(text)
    if all(map(_is_invisible, read)):
        raise text_error("text_empty")
    if any(token in read for token in SPECIAL_TOKENS):
        raise text_error("text_special_token")
    return text


def is_plain(text: str) -> bool:
    """Whether a text is printable ASCII without an entity: no cleaning changes more than its case, spaces and marks."""
    return text.isascii() and text.isprintable() and "&" not in text


def _as_the_tokenizer_reads(text: str) -> str:
    """What open_clip's cleaning makes of a text: entities, full-width letters and mojibake can spell a token too."""
    if not text.isascii() or "&" in text:
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return text.lower()


def _is_invisible(character: str) -> bool:
    return character.isspace() or character in _INVISIBLE or unicodedata.category(character) in _INVISIBLE_CATEGORIES
