"""The columns of a table that make a row: found by their usual names, or named by the user. Standard library only."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from memory_builder.caption_template import CAPTION
from memory_builder.errors import CorpusError
from memory_builder.readers.reader import ReaderOptions
from memory_builder.records import readable
from memory_builder.template_turns import CaptionTemplates, recorded


@dataclass(frozen=True)
class Usual:
    """Names that are looked for where the user gives none, in order of preference."""

    image: Sequence[str]
    caption: Sequence[str]


@dataclass(frozen=True)
class Columns:
    """Names of the columns that make a row.

    Attributes:
        images: one, or several of which each gives pairs of its own.
        caption: empty if a template does without it.
        key: empty if keys are made of paths or row numbers.
        templates: what makes captions; None takes the caption column as it is.
    """

    images: Sequence[str]
    caption: str
    key: str
    templates: CaptionTemplates | None = None

    @property
    def names(self) -> list[str]:
        """All, each once."""
        return list(dict.fromkeys(filter(None, (*self.images, *self.caption_names, self.key))))

    @property
    def caption_names(self) -> list[str]:
        """Those of which captions are made."""
        return [self.caption] if self.templates is None else list(self.templates.names)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """What tells a column's images from those of the others in keys, by column; empty where there is one."""
        return {name: _label(name) if len(self.images) > 1 else "" for name in self.images}

    def options(self) -> Mapping[str, str]:
        """As in Reader."""
        images = (
            {"image_column": self.images[0]} if len(self.images) == 1 else {"image_columns": json.dumps(self.images)}
        )
        templates = recorded("caption_template", self.templates.texts if self.templates else ())
        return {**images, "caption_column": self.caption, "key_column": self.key, **templates}


class Part(NamedTuple):
    """Pairs that follow one another: those of the rows from `start` up to `stop`, but for the first `skip` of them; the
    last row may have more."""

    start: int
    skip: int
    stop: int
    pairs: int

    def after(self, rows: int) -> "Part":
        """The same, where other rows come before."""
        return self._replace(start=self.start + rows, stop=self.stop + rows)


def choose_columns(there: Sequence[str], path: object, options: ReaderOptions, usual: Usual) -> Columns:
    """Find the columns among those that are `there`.

    Raises:
        CorpusError: table_columns.
    """
    lacking: list[str] = []  # all that is not there, so that a person is told once
    images = [_choose(there, lacking, "image", name, usual.image) for name in options.image_columns or (None,)]
    templates = options.caption_templates
    caption = ""
    if templates is None or CAPTION in templates.names:
        caption = _choose(there, lacking, "caption", options.caption_column, usual.caption)
    lacking += [
        f"no column {readable(name)!r}, which --caption-template names{_no_format(name)}"
        for name in (templates.names if templates else ())
        if name != CAPTION and name not in there
    ]
    key = _choose(there, lacking, "key", options.key_column, ()) if options.key_column else ""
    if lacking:
        found = ", ".join(map(readable, there[:20])) or "none"
        raise CorpusError("table_columns", f"{path} has {', and '.join(lacking)}. Its columns: {found}.")
    labels = list(map(_label, images))
    if len(labels) > 1 and "" in labels:
        raise CorpusError("table_columns", f"{path}: a column of images has no name, and keys are made of it: name it.")
    if twice := next((name for name in labels if labels.count(name) > 1), None):
        raise CorpusError("table_columns", f"{path}: two columns of images would both be called {twice!r} in keys.")
    return Columns(tuple(images), caption, key, templates and templates.of(caption))


def parts(counts: Iterable[int], unit_rows: int) -> Iterator[Part]:
    """Cut rows that are several pairs each into parts of at most `unit_rows` pairs.

    Args:
        counts: pairs of each row, one at least.
    """
    start, skip, pairs, row = 0, 0, 0, -1
    for row, count in enumerate(counts):
        for position in range(count):
            if pairs == unit_rows:
                yield Part(start, skip, row + bool(position), pairs)
                start, skip, pairs = row, position, 0
            pairs += 1
    if pairs:
        yield Part(start, skip, row + 1, pairs)


def image_label(column: str, position: int | None) -> str:
    """What tells an image from the others of its row in keys; empty where there is one.

    Args:
        column: its column's label.
        position: in the list that the cell is, from 0; None if the cell is no list.
    """
    return "-".join(filter(None, (column, "" if position is None else str(position))))


def _label(column: str) -> str:
    """A column's name as the last part of a key: a slash would make a folder of it, and part a row's images."""
    return readable(column).strip().replace("/", "-")


def _choose(there: Sequence[str], lacking: list[str], what: str, wanted: str | None, usual: Sequence[str]) -> str:
    """The column that is meant; if it is not there, none, and `lacking` says so."""
    if wanted is not None:
        if wanted not in there:
            lacking.append(f"no column {wanted!r}")
        return wanted
    by_name = {name.strip().lower(): name for name in reversed(there)}
    for name in usual:
        if name in by_name:
            return by_name[name]
    or_made = ", or make captions of columns with --caption-template" if what == "caption" else ""
    lacking.append(f"none of the columns {', '.join(usual)}: name it with --{what}-column{or_made}")
    return ""


def _no_format(name: str) -> str:
    """For who expects Python's format strings."""
    return (
        " (only names stand between braces: no attributes, conversions or formats)" if set(name) & set(".[!:") else ""
    )
