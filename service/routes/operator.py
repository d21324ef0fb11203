"""`POST /operator/reload`: for whoever runs the service. The door asks for a key with the operator scope."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.lifecycle import Service
from service.operator_schemas import ReloadAnswer
from service.receive import read_body
from service.routes.openapi import answer, problems


def router(service: Service) -> APIRouter:
    """The operator's routes of an app."""
    routes = APIRouter(tags=["operator"])

    @routes.post(
        "/operator/reload",
        operation_id="operator_reload",
        summary="Open the newest memory and fusion",
        response_model=None,
        responses={
            **answer(ReloadAnswer),
            **problems("body_too_large", "reload_in_progress", "reload_refused", "not_ready", "internal_error"),
        },
    )
    async def reload(request: Request) -> dict[str, Any]:
        """As SIGHUP does; answers when it is done. What is opened is what the settings name: nothing else can be."""
        await read_body(request, 0)  # K10: no parameter exists
        done = await service.reload()
        engine = done.engine
        return {
            "changed": done.changed,
            "memory_version": engine.memory.version,
            "digest": engine.memory.digest,
            "num_items": engine.memory.num_items,
            "fusion": engine.fusion_id,
            "space": engine.space,
        }

    return routes
