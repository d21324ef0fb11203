"""`/operator/...`: for whoever runs the service. The door asks for a key with the operator scope.

POST   /operator/reload   open the newest memory and fusion, read the keys again

pairs.py has `/operator/pairs`.
"""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.door.receive import read_body
from service.lifecycle import Service
from service.rendering import memory_now
from service.routes.openapi import answer, problems
from service.schemas.operator import ReloadAnswer

_RELOAD = (
    "body_too_large",
    "content_encoding_unsupported",
    "bodies_full",
    "reload_in_progress",
    "reload_refused",
    "not_ready",
    "internal_error",
)


def router(service: Service) -> APIRouter:
    """The operator's routes of an app."""
    routes = APIRouter(tags=["operator"])

    @routes.post(
        "/operator/reload",
        operation_id="operator_reload",
        summary="Open the newest memory and fusion",
        response_model=None,
        responses={**answer(ReloadAnswer), **problems(*_RELOAD)},
    )
    async def reload(request: Request) -> dict[str, Any]:
        """As SIGHUP does, keys included; answers when it is done. What is opened is what the settings name."""
        await read_body(request, 0)  # THREATS K10: no parameter exists
        done, keys_read = await service.reload_all()
        engine = done.engine
        return {
            "changed": done.changed,
            **memory_now(engine),
            "fusion": engine.fusion_id,
            "space": engine.space,
            "keys_read": keys_read,
        }

    return routes
