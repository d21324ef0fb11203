"""Which of several templates a caption is made of. Imports of ours: caption_template.py, errors.py, records.py.

By its pair's key: the captions of a thing differ, and each stays what it is when other pairs come or go. A fusion
learns from differing captions that a thing may be called otherwise (docs/training.md, "Captions that are all alike").
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from memory_builder.caption_template import CAPTION, CaptionTemplate
from memory_builder.errors import ConfigError
from memory_builder.records import RowRejected


def turn(key: str, count: int) -> int:
    """Whose turn it is among `count` templates. Not by position: keys may count in steps of just that number."""
    if count == 1:
        return 0
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") % count


def folder_templates(texts: Sequence[str]) -> tuple[str, ...]:
    """Templates for the names of folders, each once.

    Raises:
        ConfigError: one has not exactly one `{}`.
    """
    for text in texts:
        if text.count("{}") != 1:
            raise ConfigError(
                f"caption_from_folder is {text!r}: write {{}} once, where the folder's name goes, like 'a photo of a "
                "{}.'"
            )
    return tuple(dict.fromkeys(texts))


def recorded(option: str, templates: Sequence[str]) -> Mapping[str, str]:
    """Templates as a part of what a unit is; one alone as it always was."""
    if len(templates) > 1:
        return {f"{option}s": json.dumps(templates)}
    return {option: templates[0]} if templates else {}


@dataclass(frozen=True)
class CaptionTemplates:
    """The templates of a table's captions, taken apart; one at least."""

    templates: tuple[CaptionTemplate, ...]

    @classmethod
    def parse(cls, texts: Sequence[str], caption_column: str | None = None) -> "CaptionTemplates | None":
        """Take templates apart, each once; None if there is none.

        Args:
            caption_column: as it was named; a template must make use of it.

        Raises:
            ConfigError: as `CaptionTemplate.parse`; a caption column is named that no caption would be made of.
        """
        if not texts:
            return None
        made = cls(tuple(CaptionTemplate.parse(text) for text in dict.fromkeys(texts)))
        if caption_column is not None and not {CAPTION, caption_column}.intersection(made.names):
            those = ", ".join(map(repr, made.texts))
            raise ConfigError(
                f"caption_column is {caption_column!r}, and caption_template, {those}, does without it: write {{}} "
                "where it goes, or leave it out."
            )
        return made

    @property
    def texts(self) -> list[str]:
        """As the user wrote them."""
        return [template.text for template in self.templates]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of all, each once; `CAPTION` for {}."""
        return tuple(dict.fromkeys(name for template in self.templates for name in template.names))

    def of(self, caption_column: str) -> "CaptionTemplates":
        """The templates for a table whose captions are in a column of this name."""
        return CaptionTemplates(tuple(template.of(caption_column) for template in self.templates))

    def fill(self, key: str, value: Callable[[str], object]) -> str:
        """The caption of a pair: of the template whose turn it is, or the next one for which the row has all it names.

        Args:
            key: of the pair.
            value: of the column of a name.

        Raises:
            RowRejected: as `CaptionTemplate.fill`; missing_caption only where the row is enough for no template.
        """
        first = turn(key, len(self.templates))
        missing: RowRejected | None = None
        for template in (*self.templates[first:], *self.templates[:first]):
            try:
                return template.fill(value)
            except RowRejected as rejected:
                if rejected.code != "missing_caption":
                    raise
                missing = missing or rejected
        assert missing is not None, "there is a template"
        raise missing
