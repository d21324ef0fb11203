"""The OpenAPI document made whole: what holds for every route is added once, here.

Keys and their refusals, the headers of answers, and named schemas in place of repeated ones.
Depends on the route declarations of routes/openapi and the scopes of keys.
"""

from collections.abc import Callable, Mapping
from typing import Any

from service.door.keys import KeyScope
from service.openai_errors import PREFIX
from service.routes.openapi import openai_problems, problems

_USE = ("unauthorized", "scope_missing", "host_unknown", "rate_limited", "concurrency_limited")
_OPERATOR = ("unauthorized", "scope_missing", "not_found")
_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key made by `reco key new`. Without keys set, none is needed, and operator routes are not there.",
}
_VECTORS = ("/embed/image", "/embed/text", "/classify", "/v1/embeddings")
_TEXT = {"type": "string"}
_HEADERS: Mapping[str, Any] = {
    "X-Request-ID": {"description": "Of this request, in the log too; yours, if you sent a sane one.", "schema": _TEXT}
}
_OF_VECTORS: Mapping[str, Any] = {
    "Server-Timing": {"description": "Milliseconds by stage, and in all.", "schema": _TEXT},
    "X-Reco-Model": {"description": "As `model` in the body, percent-encoded beyond ASCII.", "schema": _TEXT},
    "X-Reco-Space": {"description": "As `space` in the body: equal spaces are comparable.", "schema": _TEXT},
    "X-Reco-Memory-Version": {"description": "As `memory_version` in the body.", "schema": {"type": "integer"}},
    "X-Reco-Fusion": {"description": "As `fusion` in the body; absent without one.", "schema": _TEXT},
    "X-Reco-Degraded": {"description": "`true` as `degraded` in the body: the memory was away.", "schema": _TEXT},
    "X-Reco-Truncated": {"description": "With .npy: places of the texts that were cut.", "schema": _TEXT},
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def complete(document: dict[str, Any], scope_of: Callable[[str, str], KeyScope | None]) -> dict[str, Any]:
    """Complete a document in place.

    Args:
        document: as FastAPI makes it of the routes.
        scope_of: what a key needs for a method and a path, None for nothing.
    """
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"key": _SCHEME}
    schemas = components.setdefault("schemas", {})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _add_key(operation, scope_of(method.upper(), path), path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = _named(content["schema"], schemas)
            for status, response in operation["responses"].items():
                headers = dict(_HEADERS)
                if path in _VECTORS and status == "200":
                    headers |= _OF_VECTORS
                if status in ("429", "503"):
                    headers |= _RETRY
                response["headers"] = headers
                for content in response.get("content", {}).values():
                    content["schema"] = _named(content.get("schema", {}), schemas)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def _add_key(operation: dict[str, Any], scope: KeyScope | None, path: str) -> None:
    if scope is None:
        return
    operation["security"] = [{"key": []}] if scope == "operator" else [{"key": []}, {}]
    declare = openai_problems if path.startswith(PREFIX) else problems
    responses = operation["responses"]
    for number, response in declare(*(_OPERATOR if scope == "operator" else _USE)).items():
        told = responses.get(str(number))
        if told is None:
            responses[str(number)] = response
            continue
        codes = response["description"].removeprefix("Codes: ")
        told["description"] += "".join(f", {code}" for code in codes.split(", ") if code not in told["description"])


def _named(node: Any, schemas: dict[str, Any]) -> Any:
    """The same with a reference for every object that has a title."""
    if isinstance(node, list):
        return [_named(item, schemas) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {name: _named(value, schemas) for name, value in node.items()}
    if "properties" not in inner or not isinstance(inner.get("title"), str):
        return inner
    schemas[inner["title"]] = inner
    return {"$ref": f"#/components/schemas/{inner['title']}"}
