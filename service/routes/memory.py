"""`GET /memory`: what the service looks things up in; some of its items, and their thumbnails."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.lifecycle import Service
from service.memory_items.image_bytes import image_response, image_type, not_modified
from service.memory_items.items import find_item, sample_items
from service.pipeline.engine import describe_memory
from service.problems import ItemError, Problem
from service.routes.openapi import answer, path_parameter, problems, whole_number
from service.routes.receiving import integer, whole_numbers
from service.schemas.answers import ItemsAnswer, MemoryAnswer

MAX_SAMPLE = 100


def router(service: Service) -> APIRouter:
    """The memory routes of an app."""
    routes = APIRouter(tags=["memory"])

    @routes.get(
        "/memory",
        operation_id="memory",
        summary="Describe the memory",
        response_model=None,
        responses={**answer(MemoryAnswer), **problems("not_ready", "internal_error")},
    )
    async def memory() -> dict[str, Any]:
        """Version, items, indices, segments, encoder, and the fusion checkpoint in use."""
        engine = service.pipeline.engine
        return {
            "model": service.model_name,
            **describe_memory(engine),
            "enhancement": engine.can_enhance,
            "fusion": engine.fusion_id,
            "space": engine.space,
            "original_space": engine.original_space,
            "default_k": engine.default_k(service.settings.k),
        }

    @routes.get(
        "/memory/items",
        operation_id="memory_items",
        summary="A random sample of the memory",
        response_model=None,
        responses={
            **answer(ItemsAnswer),
            **problems(
                "field_invalid", "field_unknown", "duplicate_field", "memory_unavailable", "not_ready", "internal_error"
            ),
        },
        openapi_extra={"parameters": _PARAMETERS},
    )
    async def items(request: Request) -> dict[str, Any]:
        """Some items, in the order of their ids. The same `seed` names the same items of the same memory."""
        store = service.pipeline.engine.memory
        numbers = whole_numbers(request, {"sample": 24, "seed": 0})
        if not 1 <= numbers["sample"] <= MAX_SAMPLE:
            where = ItemError("/sample", "field_invalid")
            raise Problem("field_invalid", errors=[where], extensions={"expected": f"1 to {MAX_SAMPLE}"})
        found = await asyncio.to_thread(sample_items, store, numbers["sample"], numbers["seed"])
        return {"memory_version": store.version, "digest": store.digest, "items": found}

    @routes.get(
        "/memory/items/{id}/thumbnail",
        operation_id="memory_thumbnail",
        summary="The thumbnail of an item",
        responses={
            200: {"description": "OK", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
            **problems("item_not_found", "thumbnail_not_found", "memory_unavailable", "not_ready", "internal_error"),
        },
        openapi_extra={"parameters": [_ID]},
    )
    async def thumbnail(request: Request) -> Response:
        """The small image that the memory keeps of an item, if it was built with thumbnails."""
        store = service.pipeline.engine.memory
        item = await asyncio.to_thread(find_item, store, integer(request.path_params["id"]))
        if item is None:
            raise Problem("item_not_found")
        media_type = image_type(item.thumbnail or b"")
        if item.thumbnail is None or media_type is None:
            raise Problem("thumbnail_not_found")
        etag = f'"{store.digest[:16]}-{item.id}"'
        return not_modified(request, etag) or image_response(item.thumbnail, media_type, etag)

    return routes


_ID = path_parameter("id", "Row of the item in the memory.", "integer")
_PARAMETERS = [
    whole_number("sample", f"How many, 1 to {MAX_SAMPLE}.", 24),
    whole_number("seed", "Which.", 0),
]
