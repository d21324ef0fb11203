"""The app: `create_app(settings)` composes it.

Depends on every other file of the service but serving, which serves it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from memory import MemoryUnavailable
from service.documents.openapi import complete
from service.door.access import Door
from service.door.cors import let_origins_in
from service.door.frame import RequestFrame, answer_problem
from service.lifecycle import Service
from service.observing.metrics import service_version
from service.observing.tracing import Tracing
from service.pipeline.engine import Engine
from service.problems import Problem
from service.routes import classify, documents, embed, label_sets, memory, openai, operator, page, pairs, probes
from service.routes.methods import answer_head, methods_at
from service.settings import Settings

_DESCRIPTION = "Your CLIP, plus a memory: embeddings refined with what is found in it."


def create_app(settings: Settings, engine: Engine | None = None, tracing: Tracing | None = None) -> FastAPI:
    """Compose the app.

    Args:
        settings: all there is to set.
        engine: an engine that is already open; without one, the lifespan opens what the settings name, beside
            the event loop: until that is done, and if it fails, probes answer and everything else is 503.
        tracing: where spans go; None is nowhere.
    """
    service = Service(settings, engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="RECO",
        description=_DESCRIPTION,
        version=service_version(),
        lifespan=lifespan,
        openapi_url=None,  # rendered anew for each who asks, and FastAPI's pages load scripts from a CDN
        redirect_slashes=False,
        # Ours are; FastAPI's takes 30 µs a request to ask for.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    routes_only = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(routes_only(), service.access.scope_of)
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]  # FastAPI's own way to extend it
    modules = (embed, classify, label_sets, openai, memory, operator, pairs, probes, page)  # the busiest first
    app.state.groups = [*(module.router(service) for module in modules), documents.router(whole)]
    for group in app.state.groups:
        answer_head(group)
        app.include_router(group)
    app.add_middleware(
        Door, access=service.access, refuse_if_full=service.refuse_if_full, has_enough=service.has_enough
    )
    let_origins_in(app, settings)
    paths = frozenset(route.path for group in app.state.groups for route in group.routes if "{" not in route.path)
    app.add_middleware(
        RequestFrame, metrics=service.metrics, refusal_log=service.refusal_log, paths=paths, tracing=tracing
    )
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(MemoryUnavailable, _on_memory_unavailable)
    return app


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer_problem(request, error)


async def _on_memory_unavailable(request: Request, _: Exception) -> Response:
    """Items, thumbnails and captions of neighbours are looked up while the answer is made."""
    return answer_problem(request, Problem("memory_unavailable"))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What starlette refuses itself: an unknown path, a wrong method, a request it cannot read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # starlette names the methods of one route of the path
        allow = ", ".join(methods_at(request.app.state.groups, request))
        return answer_problem(request, Problem("method_not_allowed", headers={"Allow": allow}))
    code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "request_invalid"
    return answer_problem(request, Problem(code, headers=error.headers or {}))
