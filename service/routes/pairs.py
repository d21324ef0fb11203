"""`/operator/pairs`: what an operator puts into the memory while it is served, lists, looks up and takes out.

POST   /operator/pairs         put images under a name into the memory
GET    /operator/pairs         list what was put there so
GET    /operator/pairs/{key}   look a pair up
DELETE /operator/pairs/{key}   take a pair out
"""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.lifecycle import Service
from service.memory_items.pair_changes import CAPTION, add_pairs, remove_pair
from service.memory_items.pair_lookup import find_pair, list_added
from service.pipeline.trace import Trace
from service.problems import ItemError, Problem
from service.rendering import memory_now
from service.routes.openapi import (
    BASE64_PIXEL,
    IMAGES,
    TEXTS,
    TRANSPORT,
    answer,
    image_body,
    path_parameter,
    problems,
    query_parameters,
    whole_number,
)
from service.routes.receiving import receive_images, whole_numbers
from service.schemas.operator import (
    PairAnswer,
    PairRemovedAnswer,
    PairsAnswer,
    PairsListed,
    PairsOptions,
    PairsRequest,
)

MAX_LISTED = 1000
_QUERY = ("field_invalid", "field_unknown", "duplicate_field")
_READ = ("memory_elsewhere", "not_ready", "internal_error")
_WRITE = ("memory_elsewhere", "memory_locked", "memory_write_failed", "reload_refused", "not_ready", "internal_error")
_EXAMPLES = {
    "name": {"images": [BASE64_PIXEL], "name": "puffin"},
    "caption": {"images": [BASE64_PIXEL], "caption": "a puffin on a cliff, with fish", "key": "mine/0001"},
}
_KEY = path_parameter("key", "Key of the pair; it may hold slashes.")
_PARAMETERS = [
    whole_number("limit", f"How many, 1 to {MAX_LISTED}.", 100),
    whole_number("offset", "From which on.", 0),
]


def router(service: Service) -> APIRouter:
    """The routes of an app."""
    routes = APIRouter(tags=["operator"])
    _add_look_ups(routes, service)

    @routes.post(
        "/operator/pairs",
        operation_id="operator_add_pairs",
        summary="Add images under a name",
        response_model=None,
        responses={
            **answer(PairsAnswer),
            **problems(*TRANSPORT, *IMAGES, *TEXTS, "pair_exists", "key_invalid", "name_or_caption", *_WRITE),
        },
        openapi_extra={
            "parameters": query_parameters(PairsOptions),
            "requestBody": image_body(PairsRequest, PairsOptions, _EXAMPLES),
        },
    )
    async def pairs(request: Request) -> dict[str, Any]:
        """A few photos and what they show: a new version of the memory, and the next request knows it."""
        sent = await receive_images(request, service, PairsOptions, PairsRequest)
        options: PairsOptions = sent.options
        images = [image for image in sent.images if isinstance(image, bytes)]
        caption, trace = _caption(options), Trace()
        done, engine = await add_pairs(
            service,
            images,
            caption,
            options.key,
            told_in="name" if options.caption is None else "caption",
            replace_stored=options.replace,
            trace=trace,
        )
        request.state.timing = trace.seconds()
        return {
            **memory_now(engine),
            "caption": caption,
            "added": list(done.added),
            "present": list(done.present),
            "replaced": done.replaced,
        }

    @routes.delete(
        "/operator/pairs/{key:path}",
        operation_id="operator_remove_pair",
        summary="Take a pair out of the memory",
        response_model=None,
        responses={
            **answer(PairRemovedAnswer),
            **problems("pair_not_found", *_WRITE),
        },
        openapi_extra={"parameters": [_KEY]},
    )
    async def remove(request: Request) -> dict[str, Any]:
        """No search finds it any more; its rows stay on disk until `reco memory compact` or `purge`."""
        key = request.path_params["key"]
        return {**memory_now(await remove_pair(service, key)), "removed": key}

    return routes


def _add_look_ups(routes: APIRouter, service: Service) -> None:
    @routes.get(
        "/operator/pairs",
        operation_id="operator_pairs",
        summary="List what was added",
        response_model=None,
        responses={**answer(PairsListed), **problems(*_QUERY, *_READ)},
        openapi_extra={"parameters": _PARAMETERS},
    )
    async def listed(request: Request) -> dict[str, Any]:
        """Pairs that `POST /operator/pairs` put there, the newest first; what `reco build` added is not among them."""
        numbers = whole_numbers(request, {"limit": 100, "offset": 0})
        if not 1 <= numbers["limit"] <= MAX_LISTED:
            where = ItemError("/limit", "field_invalid")
            raise Problem("field_invalid", errors=[where], extensions={"expected": f"1 to {MAX_LISTED}"})
        engine = service.pipeline.engine
        found = await asyncio.to_thread(list_added, engine, numbers["limit"], numbers["offset"])
        return {**memory_now(engine), **found}

    @routes.get(
        "/operator/pairs/{key:path}",
        operation_id="operator_pair",
        summary="Look a pair up by its key",
        response_model=None,
        responses={**answer(PairAnswer), **problems("pair_not_found", *_READ)},
        openapi_extra={"parameters": [_KEY]},
    )
    async def shown(request: Request) -> dict[str, Any]:
        """Any pair of the memory, whoever put it there."""
        engine = service.pipeline.engine
        pair = await asyncio.to_thread(find_pair, engine, request.path_params["key"])
        return {**memory_now(engine), "pair": pair}


def _caption(options: PairsOptions) -> str:
    if (options.name is None) == (options.caption is None):
        raise Problem("name_or_caption", errors=[ItemError("/name", "name_or_caption")])
    if options.name is None:
        return str(options.caption)
    if not options.name.strip():
        raise Problem.of_items([ItemError("/name", "text_empty")])
    return CAPTION.replace("{}", options.name.strip())
