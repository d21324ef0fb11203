"""What FastAPI cannot read off a handler that takes the raw request: bodies, parameters and problems.

Depends on pydantic models and problems only.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from service.openai_errors import openai_status
from service.problems import KINDS, MEDIA_TYPE
from service.schemas.answers import OpenAIError, ProblemBody

BASE64_PIXEL = "R0lGODlhAQABAIAAAICAgP///ywAAAAAAQABAAACAkQBADs="
_FILE = "(the bytes of a file)"
RAW_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")


def json_body(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A request body that is JSON only."""
    return {"required": True, "content": {"application/json": _content(_schema(model), examples)}}


def image_body(json_model: type[BaseModel], options: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A request body in the three forms of an image route."""
    form = _schema(options)
    form["title"] = json_model.__name__.replace("Request", "Form")
    for name in ("labels", "templates"):
        if name in form["properties"]:
            form["properties"][name] = {
                "type": "string",
                "description": 'A JSON list, for example ["cat", "dog"].',
            }
    form["properties"]["files"] = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One part per image; file names are ignored.",
    }
    form["required"] = [*form.get("required", []), "files"]
    [first, *_] = examples.values()
    words = {name: json.dumps(value).strip('"') for name, value in first.items() if name != "images"}
    raw = {"schema": {"type": "string", "format": "binary"}, "example": _FILE}
    return {
        "required": True,
        "content": {
            "application/json": _content(_schema(json_model), examples),
            "multipart/form-data": {"schema": form, "example": {"files": [_FILE], **words}},
            **dict.fromkeys(RAW_IMAGE_TYPES, raw),
        },
    }


def query_parameters(options: type[BaseModel]) -> list[dict[str, Any]]:
    """The options as query parameters: they belong to a raw image body, other forms refuse them.

    None has a default: clients that are generated send every default, with whatever body.
    """
    parameters = []
    for name, schema in _schema(options)["properties"].items():
        schema.pop("default", None)
        told = schema.pop("description", "")
        if name in ("labels", "templates"):
            schema = {"type": "string"}
            told = f'A JSON list, for example ["cat", "dog"]. {told}'
        description = f"With a raw image/* body only. {told}".strip()
        parameters.append({"name": name, "in": "query", "description": description, "schema": schema})
    return parameters


def path_parameter(name: str, description: str, kind: str = "string") -> dict[str, Any]:
    """What stands in a path; FastAPI's own would bring its own form of a 422."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": kind}}


def whole_number(name: str, description: str, default: int) -> dict[str, Any]:
    """A whole number in a query, which may be left out."""
    schema = {"type": "integer", "default": default}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Response declarations for the codes of a route, grouped by status."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {
        status: {
            "description": "Codes: " + ", ".join(f"`{code}`" for code in named),
            "content": {MEDIA_TYPE: {"schema": _schema(ProblemBody)}},
        }
        for status, named in sorted(by_status.items())
    }


def openai_problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The same for a route under /v1, in OpenAI's form and with its statuses."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(openai_status(code), []).append(code)
    return {
        status: {
            "description": "Codes: " + ", ".join(f"`{code}`" for code in named),
            "content": {"application/json": {"schema": _schema(OpenAIError)}},
        }
        for status, named in sorted(by_status.items())
    }


def answer(model: type[BaseModel], *, npy: bool = False) -> dict[int | str, dict[str, Any]]:
    """The declaration of a 200."""
    content: dict[str, Any] = {"application/json": {"schema": _schema(model)}}
    if npy:
        content["application/x-npy"] = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "OK", "content": content}}


TRANSPORT: Sequence[str] = (
    "json_invalid",
    "json_duplicate_key",
    "json_too_deep",
    "json_too_complex",
    "body_too_large",
    "media_type_unsupported",
    "content_encoding_unsupported",
    "field_missing",
    "field_invalid",
    "field_unknown",
    "batch_empty",
    "batch_too_large",
    "k_out_of_range",
    "enhancement_unavailable",
    "text_invalid_unicode",
    "nonfinite_embedding",
    "internal_error",
    "memory_unavailable",
    "not_ready",
    "bodies_full",
    "queue_full",
    "out_of_memory",
    "deadline_exceeded",
)
IMAGES: Sequence[str] = (
    "multipart_invalid",
    "multipart_truncated",
    "duplicate_field",
    "field_too_large",
    "base64_invalid",
    "data_uri_invalid",
    "url_not_supported",
    "pixels_full",
    *(code for code in KINDS if code.startswith("image_")),
)
TEXTS: Sequence[str] = tuple(code for code in KINDS if code.startswith("text_") and code != "text_invalid_unicode")
LABELS: Sequence[str] = tuple(code for code in KINDS if code.startswith(("labels_", "template", "work_")))


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """A self-contained schema: `$defs` would point to nowhere once it is nested in the document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    resolved: dict[str, Any] = _inline(schema, definitions)
    return resolved


def _inline(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        rest = {name: value for name, value in node.items() if name != "$ref"}
        return _inline({**target, **rest}, definitions)
    return {name: _inline(value, definitions) for name, value in node.items()}


def _content(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
