"""`GET /memory`: what the service looks things up in, and whether it can enhance at all."""

from typing import Any

from fastapi import APIRouter

from service.engine import describe_memory
from service.lifecycle import Service
from service.routes.openapi import answer, problems
from service.schemas import MemoryAnswer


def router(service: Service) -> APIRouter:
    """The memory route of an app."""
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

    return routes
