"""`/label_sets` and `/label_sets/{name}`: the label sets that `/classify` can name; operators change them."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.classes.label_sets import MAX_FILE_BYTES, LabelSet
from service.door.receive import read_body
from service.forms.json_body import refuse_charset
from service.lifecycle import Service
from service.problems import Problem
from service.routes.openapi import LABELS, TEXTS, answer, json_body, path_parameter, problems
from service.schemas.answers import LabelSetAnswer, LabelSetsAnswer
from service.schemas.requests import LabelSetRequest


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

    @routes.put(
        "/label_sets/{name}",
        operation_id="put_label_set",
        summary="Make or replace a label set",
        response_model=None,
        responses={
            **answer(LabelSetAnswer),
            **problems(*_BODY, *TEXTS, *LABELS, *_NAMES, *_CHANGES),
        },
        openapi_extra={"parameters": [NAME], "requestBody": json_body(LabelSetRequest, _EXAMPLES)},
    )
    async def put(request: Request) -> dict[str, Any]:
        """For operators. Saved in RECO_LABEL_SETS; without that folder it lives as long as the process."""
        refuse_charset(request.headers.get("content-type", ""))
        body = await read_body(request, MAX_FILE_BYTES)
        named = await asyncio.to_thread(sets.put, request.path_params["name"], body)
        service.prepare_label_sets()
        return describe(named)

    @routes.delete(
        "/label_sets/{name}",
        operation_id="delete_label_set",
        summary="Delete a label set",
        status_code=204,
        responses={204: {"description": "It is gone."}, **problems("label_set_not_found", *_CHANGES)},
        openapi_extra={"parameters": [NAME]},
    )
    async def delete(request: Request) -> Response:
        """For operators. Its file in RECO_LABEL_SETS goes too."""
        await asyncio.to_thread(sets.delete, request.path_params["name"])
        return Response(status_code=204)

    def _summaries() -> list[dict[str, Any]]:
        found = []
        for name in sets.names():
            try:
                told = sets.get(name)
            except Problem as problem:
                if "reason" not in problem.extensions:  # gone this moment
                    continue
                told = LabelSet(name, ())
            counts = {"num_labels": len(told.labels), "num_templates": len(told.templates or ())}
            found.append({"name": name, **counts, "refused": sets.refusal(name)})
        return found

    return routes


_CHANGES = ("label_set_not_saved", "internal_error")
_NAMES = ("label_set_name_invalid", "label_sets_full")
_BODY = (
    "json_invalid",
    "json_duplicate_key",
    "json_too_deep",
    "json_too_complex",
    "body_too_large",
    "content_encoding_unsupported",
    "bodies_full",
    "field_missing",
    "field_invalid",
    "field_unknown",
    "text_invalid_unicode",
)
_EXAMPLES = {"seabirds": {"labels": ["puffin", "razorbill"], "templates": ["a photo of a {}, a seabird."]}}
NAME = path_parameter("name", "1 to 64 letters, digits, dots, dashes or underscores.")


def describe(named: LabelSet) -> dict[str, Any]:
    """A label set as plain JSON."""
    templates = None if named.templates is None else list(named.templates)
    return {"name": named.name, "labels": list(named.labels), "templates": templates}
