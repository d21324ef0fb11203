"""`GET /openapi.json` and `GET /docs`: what the API says of itself, made once. Not part of it."""

import html
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.documents.docs_page import ADDRESS, render_docs


def router(document: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The routes of an app whose OpenAPI document this gives, once all of its routes are there."""
    routes = APIRouter(include_in_schema=False)

    @cache
    def specification() -> bytes:
        return orjson.dumps(document())

    @cache
    def page() -> str:
        return render_docs(document())

    @routes.get("/openapi.json")
    async def openapi() -> Response:
        return Response(specification(), media_type="application/json")

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return HTMLResponse(page().replace(ADDRESS, html.escape(str(request.base_url).rstrip("/"))))

    return routes
