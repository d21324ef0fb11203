"""The three ways to send images (JSON, multipart, raw body), each turned into (images, options).

An image is the encoded file's bytes, or the ItemError that stands in its place. No pixel is decoded here.
Depends on json_body, multipart_body, words and problems.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from service.forms.json_body import max_json_values, parse_object, refuse_charset
from service.forms.multipart_body import FILES_FIELD, MAX_FIELD_BYTES, parse_form
from service.forms.words import Word, refuse_query, values_of
from service.problems import ItemError, Problem
from service.schemas.requests import RequestModel, validate
from service.settings import Settings

Sent: TypeAlias = "bytes | ItemError"

_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,64};base64,", re.IGNORECASE)
_DATA = re.compile(r"data:", re.IGNORECASE)
_ESCAPED_BYTES = 12  # of a letter beyond 16 bits in JSON: two \\uXXXX
_URL = re.compile(r"(?:https?|ftp|file|s3|gs)://", re.IGNORECASE)
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
        form = parse_form(body, content_type, **limits, max_field_bytes=_max_field_bytes(settings))
        _refuse_misnamed(form.fields, options)
        _check_count(len(form.files), settings)
        values = values_of(form.fields, options, settings)
        return ImageRequest(form.files, validate(options, values, beside=[FILES_FIELD]))
    if media_type.startswith("image/"):
        image: Sent = body if len(body) <= settings.max_image_bytes else ItemError("/images/0", "image_too_large")
        words = [Word(*pair) for pair in query]
        return ImageRequest([image], validate(options, values_of(words, options, settings)))
    raise Problem("media_type_unsupported", extensions={"expected": _EXPECTED_TYPES})


def read_image_string(text: str, pointer: str, settings: Settings) -> Sent:
    """The bytes of one base64 string or data URI; lengths are compared before anything is decoded."""
    if _DATA.match(text):
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


def _max_field_bytes(settings: Settings) -> int:
    """Enough for the largest acceptable list of labels, were each letter of it escaped."""
    return max(MAX_FIELD_BYTES, settings.max_labels * (_ESCAPED_BYTES * settings.max_label_characters + 4))


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
