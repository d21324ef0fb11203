"""`/operator/...`: for whoever runs the service. The door asks for a key with the operator scope.

POST   /operator/reload        open the newest memory and fusion, read the keys again
POST   /operator/pairs         put images under a name into the memory
DELETE /operator/pairs/{key}   take a pair out
"""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.door.receive import read_body
from service.lifecycle import Service
from service.pairs import CAPTION, add_pairs, remove_pair
from service.pipeline.engine import Engine
from service.pipeline.trace import Trace
from service.problems import ItemError, Problem
from service.routes.openapi import (
    BASE64_PIXEL,
    IMAGES,
    TEXTS,
    TRANSPORT,
    answer,
    image_body,
    problems,
    query_parameters,
)
from service.routes.receiving import receive_images
from service.schemas.operator import PairRemovedAnswer, PairsAnswer, PairsOptions, PairsRequest, ReloadAnswer

_RELOAD = ("reload_in_progress", "reload_refused", "not_ready", "internal_error")
_WRITE = ("memory_elsewhere", "memory_locked", "memory_write_failed", "reload_refused", "not_ready", "internal_error")
_EXAMPLES = {
    "name": {"images": [BASE64_PIXEL], "name": "puffin"},
    "caption": {"images": [BASE64_PIXEL], "caption": "a puffin on a cliff, with fish", "key": "mine/0001"},
}
_KEY = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "Key of the pair; it may hold slashes.",
    "schema": {"type": "string"},
}


def router(service: Service) -> APIRouter:
    """The operator's routes of an app."""
    routes = APIRouter(tags=["operator"])

    @routes.post(
        "/operator/reload",
        operation_id="operator_reload",
        summary="Open the newest memory and fusion",
        response_model=None,
        responses={**answer(ReloadAnswer), **problems("body_too_large", *_RELOAD)},
    )
    async def reload(request: Request) -> dict[str, Any]:
        """As SIGHUP does, keys included; answers when it is done. What is opened is what the settings name."""
        await read_body(request, 0)  # THREATS K10: no parameter exists
        done, keys_read = await service.reload_all()
        engine = done.engine
        return {
            "changed": done.changed,
            **_memory_now(engine),
            "fusion": engine.fusion_id,
            "space": engine.space,
            "keys_read": keys_read,
        }

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
            service, images, caption, options.key, replace_stored=options.replace, trace=trace
        )
        request.state.timing = trace.seconds()
        return {
            **_memory_now(engine),
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
        openapi_extra={"parameters": [_KEY]},  # FastAPI's own would bring its own form of a 422
    )
    async def remove(request: Request) -> dict[str, Any]:
        """No search finds it any more; its rows stay on disk until `reco memory compact` or `purge`."""
        key = request.path_params["key"]
        return {**_memory_now(await remove_pair(service, key)), "removed": key}

    return routes


def _caption(options: PairsOptions) -> str:
    if (options.name is None) == (options.caption is None):
        raise Problem("name_or_caption", errors=[ItemError("/name", "name_or_caption")])
    if options.name is None:
        return str(options.caption)
    if not options.name.strip():
        raise Problem.of_items([ItemError("/name", "text_empty")])
    return CAPTION.replace("{}", options.name.strip())


def _memory_now(engine: Engine) -> dict[str, Any]:
    memory = engine.memory
    return {"memory_version": memory.version, "digest": memory.digest, "num_items": memory.num_items}
