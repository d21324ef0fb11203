"""Options as words, which form fields and queries hold: true, 5, or a JSON list, made into what the models take.

Depends on json_body, the request models and problems.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from service.forms.json_body import max_json_values, parse
from service.problems import ItemError, Problem
from service.schemas.requests import ClassifyOptions, EmbedOptions, RequestModel
from service.settings import Settings

_INTEGER = re.compile(r"[0-9]{1,9}")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}  # as JSON and as Python writes them
_LISTS = {  # fields whose word is a JSON list, each with one
    "labels": '["kiwi", "lemon"]',
    "templates": '["a photo of a {}."]',
}

_OPTIONS = frozenset(ClassifyOptions.model_fields) | frozenset(EmbedOptions.model_fields)


class Word(NamedTuple):
    """A form's field or a query's parameter: the client's own name for it, its text (None if it
    is none), and whether it came as a file."""

    name: str
    text: str | None
    is_file: bool = False


def refuse_query(query: Sequence[tuple[str, str]]) -> None:
    """Options go with the body here: one in the query would be ignored, so it is refused."""
    if query:
        expected = "no query: options go into the body, but for those of a body that is an image file"
        named = next((name for name, _ in query if name in _OPTIONS), None)  # our own words only
        if named is not None:
            expected = f"{named} in the body, and {expected}"
        raise Problem("field_unknown", errors=[ItemError("", "field_unknown")], extensions={"expected": expected})


def values_of(words: Sequence[Word], options: type[RequestModel], settings: Settings) -> dict[str, Any]:
    """Form fields and query parameters are words: true, 5, base64, or a JSON list for labels and templates.

    What is not of its field's form stays a string, for the model to refuse.

    Raises:
        Problem: duplicate_field, text_invalid_unicode; field_invalid, or what bounds JSON, for a list that is none.
    """
    values: dict[str, Any] = {}
    for name, word, _ in words:
        if name in values:
            raise _of_field("duplicate_field", name, options)
        if word is None:
            raise _of_field("text_invalid_unicode", name, options)
        if name in _LISTS and name in options.model_fields:
            values[name] = _list_of(name, word, options, settings)
        elif name in ("k", "top_k") and _INTEGER.fullmatch(word):
            values[name] = int(word)
        elif word in _BOOLEANS and _takes_boolean(options, name):
            values[name] = _BOOLEANS[word]
        else:
            values[name] = word
    return values


def _list_of(name: str, word: str, options: type[RequestModel], settings: Settings) -> list[Any]:
    """The JSON list that a word is; whether its items are texts is the model's to see."""
    try:
        value = parse(word.encode("utf-8"), max_values=max_json_values(settings))
    except Problem as problem:  # json_invalid would be of the whole body
        raise _of_field("field_invalid" if problem.code == "json_invalid" else problem.code, name, options) from None
    if not isinstance(value, list):
        raise _of_field("field_invalid", name, options)
    return value


def _of_field(code: str, name: str, options: type[RequestModel]) -> Problem:
    """What is wrong with a word; a name that is no field's is the client's own text, and not repeated."""
    if name not in options.model_fields:
        return Problem(code)
    form = f"one field {name} with a JSON list, {name}={_LISTS[name]}" if name in _LISTS else None
    return Problem(code, errors=[ItemError(f"/{name}", code)], extensions={"expected": form} if form else {})


def _takes_boolean(options: type[RequestModel], name: str) -> bool:
    """Whether a word of this field may be a truth value: a name may be "true"."""
    field = options.model_fields.get(name)
    return field is not None and bool in (field.annotation, *get_args(field.annotation))
