"""JSON for files that are hashed: one canonical form, and a parser that refuses everything else.

Standard library and errors only. Duplicate keys, NaN, infinity, unknown and missing fields are all
`ManifestInvalid`.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from memory.errors import ManifestInvalid

T = TypeVar("T")
MAX_COUNT: Final = 1 << 48  # rows or bytes of one thing; keeps sums far inside int64


def canonical_bytes(value: object) -> bytes:
    """The one serialisation of a JSON value: sorted keys, no spaces, ASCII, final newline.

    Raises:
        ManifestInvalid: for NaN, infinity, non-string keys or what JSON has no word for.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestInvalid(f"cannot be written as JSON: {error}") from error
    return text.encode("ascii") + b"\n"


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse canonical JSON.

    Raises:
        ManifestInvalid: not JSON, not an object, or not byte for byte the canonical form of itself.
    """
    try:
        value = json.loads(data, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{where} is not JSON we accept: {error}") from error
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} is not a JSON object")
    if canonical_bytes(value) != data:
        raise ManifestInvalid(f"{where} is not in canonical form: it was edited or damaged after it was written")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


class Fields:
    """Takes the fields of one JSON object, typed, and refuses what is left over."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ManifestInvalid(f"{where} is not an object")
        self._rest: dict[str, Any] = dict(value)
        self.where = where

    def has(self, name: str) -> bool:
        """Whether a field is there, for those that may be left out."""
        return name in self._rest

    def take(self, name: str) -> Any:
        if name not in self._rest:
            raise ManifestInvalid(f"{self.where}: field {name!r} is missing")
        return self._rest.pop(name)

    def integer(self, name: str, *, least: int = 0, most: int = MAX_COUNT) -> int:
        value = self.take(name)
        # bool is an int in Python, and 1.0 is not a count
        if type(value) is not int or not least <= value <= most:
            raise ManifestInvalid(f"{self.where}: {name!r} is not an integer from {least} to {most}")
        return value

    def number(self, name: str, *, least: float, most: float) -> float:
        """Take a fraction within bounds; a whole number is none, for it would be written otherwise."""
        value = self.take(name)
        if type(value) is not float or not least <= value <= most:
            raise ManifestInvalid(f"{self.where}: {name!r} must be a fraction of {least} to {most}")
        return value

    def string(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value or (pattern and not pattern.fullmatch(value)):
            raise ManifestInvalid(f"{self.where}: {name!r} is not of the expected form")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.take(name)
        if not isinstance(value, dict):
            raise ManifestInvalid(f"{self.where}: {name!r} is not an object")
        return value

    def array(self, name: str, parse: "Callable[[Fields], T]") -> tuple[T, ...]:
        """A list of objects, each parsed by `parse` and used up by it."""
        value = self.take(name)
        if not isinstance(value, list):
            raise ManifestInvalid(f"{self.where}: {name!r} is not a list")
        return tuple(self._parse_whole(item, f"{self.where}.{name}[{i}]", parse) for i, item in enumerate(value))

    def table(self, name: str, parse: "Callable[[str, Fields], T]") -> tuple[T, ...]:
        """An object of objects, each parsed by `parse(key, fields)`, in the order of its keys."""
        value: Mapping[str, Any] = self.mapping(name)
        return tuple(
            self._parse_whole(item, f"{self.where}.{name}[{key!r}]", partial(parse, key))
            for key, item in sorted(value.items())
        )

    def done(self) -> None:
        if self._rest:
            raise ManifestInvalid(f"{self.where}: unknown field {min(self._rest)!r}")

    @staticmethod
    def _parse_whole(value: object, where: str, parse: "Callable[[Fields], T]") -> T:
        fields = Fields(value, where)
        result = parse(fields)
        fields.done()
        return result
