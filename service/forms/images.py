"""The three ways to send images (JSON, multipart, raw body), each turned into (images, options).

An image is the encoded file's bytes, or the ItemError that stands in its place. No pixel is decoded here.
Depends on the request parsers and problems.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from service.forms.json_body import parse, parse_object
from service.forms.multipart_body import FILES_FIELD, Word, parse_form
from service.problems import ItemError, Problem
from service.schemas.requests import ClassifyOptions, EmbedOptions, RequestModel, validate
from service.settings import Settings

Sent: TypeAlias = "bytes | ItemError"

_DATA_URI = re.compile(r"data:image/[a-zA-Z0-9.+-]{1,64};base64,")
_URL = re.compile(r"(?:https?|ftp|file|s3|gs)://", re.IGNORECASE)
_INTEGER = re.compile(r"[0-9]{1,9}")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}  # as JSON and as Python writes them
_LISTS = {  # fields whose word is a JSON list, each with one
    "labels": '["kiwi", "lemon"]',
    "templates": '["a photo of a {}."]',
}
_EXPECTED_TYPES = "Content-Type: application/json, multipart/form-data with an image in it, or that of an image file"
_EXPECTED_FILES = f"each image in a part of its own, all of them named {FILES_FIELD}"


@dataclass(frozen=True)
class ImageRequest:
    """Images in request order and the validated options."""

    images: Sequence[Sent]
    options: Any


def read_images(
    body: bytes,
    *,
    content_type: str,
    query: Sequence[tuple[str, str]],
    options: type[RequestModel],
    json_request: type[RequestModel],
    settings: Settings,
) -> ImageRequest:
    """Take a request body apart by its content type.

    Args:
        options: the model of the options alone (multipart fields, query of a raw body).
        json_request: the model of the whole JSON body: the options and `images`.

    Raises:
        Problem: whatever makes the request as a whole unusable; one bad image is an ItemError in its place.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        refuse_query(query)
        refuse_charset(content_type)
        values = parse_object(body, max_values=max_json_values(settings))
        request: Any = validate(json_request, values)
        _check_count(len(request.images), settings)
        images = [read_image_string(text, f"/images/{place}", settings) for place, text in enumerate(request.images)]
        return ImageRequest(images, request)
    if media_type == "multipart/form-data":
        refuse_query(query)
        limits = {"max_files": settings.max_images, "max_file_bytes": settings.max_image_bytes}
        form = parse_form(body, content_type, **limits)
        _refuse_misnamed(form.fields, options)
        _check_count(len(form.files), settings)
        values = _from_words(form.fields, options, settings)
        return ImageRequest(form.files, validate(options, values, beside=[FILES_FIELD]))
    if media_type.startswith("image/"):
        if len(body) > settings.max_image_bytes:
            where = ItemError("/images/0", "image_too_large")
            raise Problem("image_too_large", errors=[where], extensions={"limit": settings.max_image_bytes})
        words = [Word(*pair) for pair in query]
        return ImageRequest([body], validate(options, _from_words(words, options, settings)))
    raise Problem("media_type_unsupported", extensions={"expected": _EXPECTED_TYPES})


def read_image_string(text: str, pointer: str, settings: Settings) -> Sent:
    """The bytes of one base64 string or data URI; lengths are compared before anything is decoded."""
    if text.startswith("data:"):
        prefix = _DATA_URI.match(text)
        if not prefix:
            return ItemError(pointer, "data_uri_invalid")
        text = text[prefix.end() :]
    elif _URL.match(text):
        return ItemError(pointer, "url_not_supported")
    if len(text) // 4 * 3 > settings.max_image_bytes + 2:  # padding may stand for two bytes
        return ItemError(pointer, "image_too_large")
    if len(text) % 4 or text.endswith("==="):  # Python 3.11 lets surplus padding pass even when it validates
        return ItemError(pointer, "base64_invalid")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ItemError(pointer, "base64_invalid")


_OPTIONS = frozenset(ClassifyOptions.model_fields) | frozenset(EmbedOptions.model_fields)


def refuse_query(query: Sequence[tuple[str, str]]) -> None:
    """Options go with the body here: one in the query would be ignored, so it is refused."""
    if query:
        expected = "no query: options go into the body, but for those of a body that is an image file"
        named = next((name for name, _ in query if name in _OPTIONS), None)  # our own words only
        if named is not None:
            expected = f"{named} in the body, and {expected}"
        raise Problem("field_unknown", errors=[ItemError("", "field_unknown")], extensions={"expected": expected})


def refuse_charset(content_type: str) -> None:
    """JSON is UTF-8; a declaration of anything else is an error, not a hint."""
    match = re.search(r";\s*charset\s*=\s*\"?([^\s\";]+)", content_type, re.IGNORECASE)
    if match and match[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem("json_invalid")


def max_json_values(settings: Settings) -> int:
    """Twice what the largest acceptable request needs (a list item is a string and a comma)."""
    items = settings.max_images + settings.max_texts + settings.max_labels + settings.max_templates
    return 2 * (2 * items + 64)


def _check_count(count: int, settings: Settings) -> None:
    if count == 0:
        raise Problem("batch_empty")
    if count > settings.max_images:
        raise Problem("batch_too_large", extensions={"limit": settings.max_images})


def _refuse_misnamed(words: Sequence[Word], options: type[RequestModel]) -> None:
    """An image under another name than `files` is told so before anything that comes of its absence."""
    if any(word.is_file and word.name not in options.model_fields for word in words):
        known = sorted([FILES_FIELD, *options.model_fields])
        raise Problem("field_unknown", extensions={"known_fields": known, "expected": _EXPECTED_FILES})


def _from_words(words: Sequence[Word], options: type[RequestModel], settings: Settings) -> dict[str, Any]:
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
