"""A caption made of a row's columns: 'a photo of a {brand} {model}, {colour}.' Imports of ours: errors.py, records.py.

What stands between braces is the name of a column as it is, and nothing is evaluated.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import NamedTuple

from memory_builder.errors import ConfigError
from memory_builder.records import RowRejected, readable

CAPTION = ""
"""What `{}` names: the caption column."""
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
# What other programs write where there is no value, in any case.
_NO_VALUE = frozenset({"", "nan", "none", "null", "<na>", "n/a"})
_LONGEST_WHOLE = 1e15  # beyond it, digits of a float are not those of the number that was meant


class _Column(NamedTuple):
    """A part of a template that stands for a column."""

    name: str


@dataclass(frozen=True)
class CaptionTemplate:
    """A template, taken apart.

    Attributes:
        text: as the user wrote it.
        parts: literal texts and columns, as they follow one another.
    """

    text: str
    parts: tuple[str | _Column, ...]

    @classmethod
    def parse(cls, text: str) -> "CaptionTemplate":
        """Take a template apart; {{ and }} are braces of the caption.

        Raises:
            ConfigError: a brace that stands alone, or no column at all.
        """
        parts: list[str | _Column] = []
        for found in _PART.finditer(text):
            part = found[0]
            if part in ("{", "}"):
                raise ConfigError(
                    f"caption_template is {text!r}: the {part} at character {found.start() + 1} has no partner. Write "
                    "a column's name between braces, like 'a photo of a {brand}.', and {{ or }} for a brace itself."
                )
            parts.append(part[0] if part in ("{{", "}}") else part if found[1] is None else _Column(found[1]))
        if not any(isinstance(part, _Column) for part in parts):
            raise ConfigError(
                f"caption_template is {text!r}: it names no column. Write one between braces, like 'a photo of a "
                "{brand}.', or {} for the caption column."
            )
        return cls(text, tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, each once; `CAPTION` for {}."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, _Column)))

    def of(self, caption_column: str) -> "CaptionTemplate":
        """The template for a table whose captions are in a column of this name."""
        parts = (_Column(caption_column) if part == _Column(CAPTION) else part for part in self.parts)
        return replace(self, parts=tuple(parts))

    def fill(self, value: Callable[[str], object]) -> str:
        """The caption of a row.

        Args:
            value: of the column of a name.

        Raises:
            RowRejected: missing_caption, where a column has no value; row_invalid, where it is no text or number.
        """
        return "".join(_word(part.name, value(part.name)) if isinstance(part, _Column) else part for part in self.parts)


def _word(name: str, value: object) -> str:
    """A cell's value as a caption has it, without white space around it."""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < _LONGEST_WHOLE  # pandas makes floats of numbers with gaps
        value = (int(value) if whole else value) if isfinite(value) else None
    if isinstance(value, Decimal) and not value.is_finite():
        value = None
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float | Decimal)):
        raise RowRejected("row_invalid", f"The column {readable(name)} holds no text or number here.")
    word = "" if value is None else f"{value}".strip()
    if word.casefold() in _NO_VALUE:
        raise RowRejected("missing_caption", f"The column {readable(name)} is empty, and the caption is made of it.")
    return word
