"""Strict JSON: what RFC 8259 and I-JSON allow, nothing that parsers disagree about.

UTF-8 only, no NaN or Infinity (nor 1e999), no duplicate keys, bounded depth and number of values, no lone
surrogates. Depends on problems and settings. Linear in the body, and refuses before it builds anything.
"""

import json
import re
from typing import Any, NoReturn

from service.problems import ItemError, Problem
from service.settings import Settings

MAX_DEPTH = 16

_TOKEN = re.compile(rb'["\[\]{},]')
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)  # what follows its first quote; possessive, and so linear
_OPENING, _CLOSING = b"[{", b"]}"


def refuse_charset(content_type: str) -> None:
    """JSON is UTF-8; a declaration of anything else is an error, not a hint."""
    match = re.search(r";\s*charset\s*=\s*\"?([^\s\";]+)", content_type, re.IGNORECASE)
    if match and match[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem("json_invalid")


def max_json_values(settings: Settings) -> int:
    """Twice what the largest acceptable request needs (a list item is an object of one string, and a comma)."""
    items = settings.max_images + settings.max_texts + settings.max_labels + settings.max_templates
    return 2 * (5 * items + 64)


def parse_object(body: bytes, *, max_values: int) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        body: The bytes as received.
        max_values: Upper bound for strings, containers and commas together.

    Raises:
        Problem: json_invalid, json_too_deep, json_too_complex, json_duplicate_key, text_invalid_unicode, or
            field_invalid when the top level is no object.
    """
    value = parse(body, max_values=max_values)
    if not isinstance(value, dict):
        raise Problem("field_invalid", errors=[ItemError("", "field_invalid")], extensions={"expected": "an object"})
    return value


def parse(body: bytes, *, max_values: int) -> Any:
    """Parse any JSON value; see `parse_object`."""
    _scan(body, max_values)
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise _invalid_at(error.lineno, error.colno) from None
    except UnicodeDecodeError as error:
        raise _invalid_behind(body[: error.start]) from None
    except ValueError:  # an integer of over 4,300 digits; the depth is bounded, so no RecursionError
        raise Problem("json_invalid") from None
    _refuse_surrogates(value, "")
    return value


def _scan(body: bytes, max_values: int) -> None:
    """Bound depth and number of values by looking at the bytes alone."""
    depth = count = position = 0
    while token := _TOKEN.search(body, position):
        if count > max_values:
            raise Problem("json_too_complex")
        count += 1
        position, first = token.end(), body[token.start()]
        if first in _OPENING:
            depth += 1
            if depth > MAX_DEPTH:
                raise Problem("json_too_deep", extensions={"limit": MAX_DEPTH})
        elif first in _CLOSING:
            depth -= 1
        elif first == ord('"'):
            position = _string_end(body, position)


def _string_end(body: bytes, start: int) -> int:
    """Where the string ends whose first quote is before `start`. An image has no backslash: the next quote is its last,
    found many times faster than by the expression."""
    end = body.find(b'"', start)
    if end >= 0 and body.find(b"\\", start, end) < 0:
        return end + 1
    string = _STRING.match(body, start)
    if string is None:
        raise _invalid_behind(body[: start - 1])
    return string.end()


def _invalid_behind(read: bytes) -> Problem:
    """What is wrong begins where what was read ends; columns count characters."""
    last = read.rpartition(b"\n")[2].decode("utf-8", "replace")
    return _invalid_at(read.count(b"\n") + 1, len(last) + 1)


def _invalid_at(line: int, column: int) -> Problem:
    return Problem("json_invalid", extensions={"line": line, "column": column})


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise Problem("json_duplicate_key")
    return unique


def _refuse_constant(_: str) -> NoReturn:
    raise Problem("json_invalid")


def _finite_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Problem("json_invalid")
    return number


def _refuse_surrogates(value: Any, pointer: str) -> None:
    """`"\\ud800"` is valid JSON and no Unicode: nothing behind this point could encode it again."""
    if isinstance(value, str):
        if not value.isascii() and not _is_unicode(value):
            raise Problem("text_invalid_unicode", errors=[ItemError(pointer, "text_invalid_unicode")])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_surrogates(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            # A key is the client's own text: the pointer stops at its parent unless it is a plain word.
            _refuse_surrogates(key, pointer)
            _refuse_surrogates(item, f"{pointer}/{key}" if key in _NAMED_FIELDS else pointer)


_NAMED_FIELDS = frozenset({"images", "texts", "labels", "templates", "input"})


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
