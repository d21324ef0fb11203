"""From a request to what it asks: refused early, read once, and taken apart, off the event loop if it is large.

Depends on the door, the forms, problems and schemas.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request

from service.door.receive import read_body
from service.forms.images import ImageRequest, read_images
from service.forms.json_body import max_json_values, parse_object, refuse_charset
from service.forms.words import refuse_query
from service.lifecycle import Service
from service.problems import ItemError, Problem
from service.routes.off_loop import LARGE_BODY_BYTES, off_loop
from service.settings import Settings

_MAX_DIGITS = 18  # an id or a seed beyond is none, and int() need not look at it


async def receive_images(request: Request, service: Service, options: type, json_request: type) -> ImageRequest:
    """Read the body and take it apart."""
    settings = service.settings
    content_type = request.headers.get("content-type", "")
    body = await read_body(request, settings.max_body_bytes)
    parse = partial(
        read_images,
        body,
        content_type=content_type,
        query=request.query_params.multi_items(),
        options=options,
        json_request=json_request,
        settings=settings,
    )
    sent = await off_loop(parse, large=len(body) > LARGE_BODY_BYTES)
    request.state.items = len(sent.images)
    refuse_bad_items(sent.images, sent.options.on_error, settings)
    return sent


async def receive_json(request: Request, settings: Settings) -> tuple[dict[str, Any], bool]:
    """The object that a body of JSON holds, and whether it is a large one.

    Raises:
        Problem: media_type_unsupported, and what reading and parsing raise.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem("media_type_unsupported", extensions={"expected": "Content-Type: application/json"})
    refuse_charset(content_type)
    refuse_query(request.query_params.multi_items())
    body = await read_body(request, settings.max_body_bytes)
    large = len(body) > LARGE_BODY_BYTES
    return await off_loop(partial(parse_object, body, max_values=max_json_values(settings)), large=large), large


def refuse_bad_items(outcomes: Sequence[object], on_error: str, settings: Settings) -> None:
    """With on_error=fail, one bad item is the request's problem."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, ItemError)]
    if errors and on_error == "fail":
        raise Problem.of_items(errors, settings.item_limits)


def choose_k(service: Service, k: int | None) -> int:
    """The number of neighbours of a request.

    Raises:
        Problem: k_out_of_range.
    """
    engine = service.pipeline.engine
    largest = engine.largest_k(service.settings.max_k)
    if k is None:
        return engine.default_k(service.settings.k)
    if not 1 <= k <= largest:
        raise Problem("k_out_of_range", errors=[ItemError("/k", "k_out_of_range")], extensions={"limit": largest})
    return k


def whole_numbers(request: Request, defaults: dict[str, int]) -> dict[str, int]:
    """Query parameters that are whole numbers.

    Raises:
        Problem: field_unknown, duplicate_field, field_invalid.
    """
    numbers: dict[str, int] = {}
    for name, word in request.query_params.multi_items():
        if name not in defaults:
            raise Problem("field_unknown", extensions={"known_fields": sorted(defaults)})
        if name in numbers:
            raise Problem("duplicate_field", errors=[ItemError(f"/{name}", "duplicate_field")])
        number = integer(word)
        if number is None:
            where = ItemError(f"/{name}", "field_invalid")
            raise Problem("field_invalid", errors=[where], extensions={"expected": "a whole number"})
        numbers[name] = number
    return defaults | numbers


def integer(word: str) -> int | None:
    """Digits as a number; None for anything else: signs, blanks and other scripts' digits included."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS else None
