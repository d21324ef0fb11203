"""`GET /livez`, `/readyz` (alias `/health`) and `/metrics`: they need no permit, so load never sheds them.

Balancers may ask the probes with HEAD, as every route that answers GET: the same status, and no body.
"""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.lifecycle import Service, ready_details
from service.routes.off_loop import off_loop
from service.routes.openapi import problems


def router(service: Service) -> APIRouter:
    """The probes of an app."""
    routes = APIRouter(tags=["probes"])

    @routes.get("/livez", operation_id="livez", summary="Is the process alive?", response_model=None)
    async def livez() -> dict[str, str]:
        """200 as long as the event loop turns; says nothing about the model or the memory."""
        return {"status": "alive"}

    @routes.get("/health", include_in_schema=False, response_model=None)
    @routes.get(
        "/readyz",
        operation_id="readyz",
        summary="Can it answer?",
        response_model=None,
        responses=problems("not_ready"),
    )
    async def readyz() -> dict[str, Any]:
        """200 if items went through every stage within the last seconds; else 503 and the `reason`."""
        await service.check_ready()
        sets = service.label_sets
        return ready_details(service, await off_loop(sets.still_refused, large=sets.some_refused))

    @routes.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return routes
