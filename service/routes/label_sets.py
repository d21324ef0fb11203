"""`GET /label_sets` and `/label_sets/{name}`: the label sets that `/classify` can name."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.label_sets import LabelSet
from service.lifecycle import Service
from service.problems import Problem
from service.routes.openapi import answer, problems
from service.schemas import LabelSetAnswer, LabelSetsAnswer


def router(service: Service) -> APIRouter:
    """The label set routes of an app."""
    routes = APIRouter(tags=["classify"])
    sets = service.label_sets

    @routes.get(
        "/label_sets",
        operation_id="label_sets",
        summary="List the label sets",
        response_model=None,
        responses={**answer(LabelSetsAnswer), **problems("internal_error")},
    )
    async def listed() -> dict[str, Any]:
        """Their names and sizes."""
        return {"label_sets": await asyncio.to_thread(_summaries)}

    @routes.get(
        "/label_sets/{name}",
        operation_id="label_set",
        summary="Show a label set",
        response_model=None,
        responses={**answer(LabelSetAnswer), **problems("label_set_not_found", "internal_error")},
        openapi_extra={"parameters": [NAME]},  # FastAPI's own would bring its own form of a 422
    )
    async def show(request: Request) -> dict[str, Any]:
        """Its labels and templates."""
        return describe(await asyncio.to_thread(sets.get, request.path_params["name"]))

    def _summaries() -> list[dict[str, Any]]:
        found = []
        for name in sets.names():
            try:
                told = sets.get(name)
            except Problem:  # unusable since the start, or gone this moment; the log says why
                continue
            counts = {"num_labels": len(told.labels), "num_templates": len(told.templates or ())}
            found.append({"name": name, **counts})
        return found

    return routes


NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "1 to 64 letters, digits, dots, dashes or underscores.",
    "schema": {"type": "string"},
}


def describe(named: LabelSet) -> dict[str, Any]:
    """A label set as plain JSON."""
    templates = None if named.templates is None else list(named.templates)
    return {"name": named.name, "labels": list(named.labels), "templates": templates}
