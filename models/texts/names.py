"""Which of some names a text mentions: one set of rules for training, evaluation and service. numpy only."""

import html
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

NO_NAME = -1
# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han. Each letter is a word of its own, so that a name
# is found wherever its letters stand in a row.
_ALONE = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u1000-\u103f\u1780-\u17d3"
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs above and below letters, of which many are no letter of their own: of Latin, Hebrew, Arabic and Indian scripts.
_SIGNS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_LETTERS = rf"(?:[^\W_{_ALONE}]|[{_SIGNS}])+"
_WORD = re.compile(rf"[{_ALONE}]|{_LETTERS}(?:['-]{_LETTERS})*(?:[+#]++(?!\w))?")
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*(?:[+#]++(?!\w))?", re.ASCII)  # the same, in half the time
# Typographic apostrophe and hyphens; dashes part words as spaces do. A soft hyphen is seen only where a line ends.
_TYPED = str.maketrans({"\u2019": "'", "\u2010": "-", "\u2011": "-", "\u00ad": None})


class Names:
    """Names to be found in texts, as whole words.

    Case, Unicode form and the choice between hyphen, underscore and space do not count, but a name is no part of a word
    with hyphens: `AB-12` is `AB 12`, and neither is in `AB-12-XL`. Where several names occur, the longest counts: `rock
    wren` is no `wren`. A name in a script without spaces is found wherever its letters stand in a row; `C++` and `C#`
    are no `C`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names.

        Raises:
            ValueError: if there are none.
        """
        self._numbers = {words: place for place, words in enumerate(sorted({words_of(name) for name in names} - {()}))}
        if not self._numbers:
            raise ValueError("no names: a list of names has one name a line")
        lengths: dict[str, set[int]] = {}
        for words in self._numbers:
            lengths.setdefault(words[0], set()).add(len(words))
        self._lengths = {first: sorted(some, reverse=True) for first, some in lengths.items()}

    def mentioned(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The number of the name that each text mentions: (N,) int64, -1 for texts that mention none.

        Names of the same words have one number, which each of them mentions.
        """
        return np.array([self._in(*_read(text)) for text in texts], dtype=np.int64)

    def all_mentioned(self, texts: Sequence[str]) -> list[set[int]]:
        """The numbers of all names that each text mentions, but for a name that is a part of a longer one."""
        return [set(self._all_in(*_read(text))) for text in texts]

    def _all_in(self, words: tuple[str, ...], within: Container[int]) -> Iterator[int]:
        """The longest name that begins at each of the words, unless it ends within the one before."""
        furthest = 0
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                end = start + length
                if start in within or end in within or not furthest < end <= len(words):
                    continue
                if words[start:end] in self._numbers:
                    furthest = end
                    yield self._numbers[words[start:end]]
                    break

    def _in(self, words: tuple[str, ...], within: Container[int]) -> int:
        """The first of the longest names among the words."""
        longest, found = 0, NO_NAME
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                if length <= longest:
                    break
                end = start + length
                if start in within or end in within or end > len(words):
                    continue
                number = self._numbers.get(words[start:end])
                if number is not None:
                    longest, found = length, number
                    break
        return found


def plain(text: str) -> str:
    """A caption or a name without what does not count in it: case, spaces, Unicode form and what HTML escapes."""
    return " ".join(_folded(_unescaped(text)).split())


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as names are compared by; those that hyphens join one by one."""
    return _read(text)[0]


def joined_words(text: str) -> tuple[str, ...]:
    """The words of a text as its hyphens join them: `ab-1203` is one."""
    return _joined(_typed_plainly(text))


def _read(text: str) -> tuple[tuple[str, ...], Container[int]]:
    """The words of a text, and at which of them a hyphen stands before."""
    text = _typed_plainly(text)
    joined = _joined(text)
    if "-" not in text:
        return joined, ()
    words, within = list[str](), set[int]()
    for word in joined:
        parts = word.split("-")
        within.update(range(len(words) + 1, len(words) + len(parts)))
        words += parts
    return tuple(words), within


def _joined(text: str) -> tuple[str, ...]:
    return tuple((_ASCII_WORD if text.isascii() else _WORD).findall(text))


def _typed_plainly(text: str) -> str:
    """Without case, an underscore as the hyphen that it stands for, hyphens and apostrophes as on a keyboard."""
    text = _unescaped(text)
    if text.isascii():
        return text.lower().replace("_", "-")
    return _folded(text).replace("_", "-").translate(_TYPED)


def _unescaped(text: str) -> str:
    """`H&amp;M`, as shops export it, is `H&M`: open_clip's tokenizers read it so, and what was escaped twice too."""
    return html.unescape(html.unescape(text)) if "&" in text and ";" in text else text


def _folded(text: str) -> str:
    """Without case, letters with their accents in one; NFC, since NFKC would make a ™ part of the word before it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
