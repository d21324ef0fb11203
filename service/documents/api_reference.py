"""`docs/api.md` and `docs/openapi.json`, from the routes themselves: python -m service.documents.api_reference [FOLDER]

A test holds both to the code. Depends on the app, docs_page's examples and problems.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.app import create_app
from service.documents.docs_page import CURL
from service.environment import load_settings
from service.problems import KINDS

_BASE = "http://127.0.0.1:8000"
_INTRODUCTION = Path(__file__).with_suffix(".md")


def documents() -> dict[str, str]:
    """Both files by name."""
    # Nothing is opened: the lifespan that would do that never begins.
    document = create_app(load_settings(model="none", memory="none", stamps="none")).openapi()
    document["info"]["version"] = "1"  # of the API; the release stands in the service's own /openapi.json
    return {"api.md": reference(document), "openapi.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n"}


def reference(document: Mapping[str, Any]) -> str:
    """The page: the introduction, each route, and all codes."""
    routes = "\n".join(
        _route(method.upper(), path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    codes = _table(
        ("code", "status", ""), ((f"`{code}`", str(kind.status), kind.title) for code, kind in KINDS.items())
    )
    text = _INTRODUCTION.read_text(encoding="utf-8")
    return text.replace("<!-- routes -->\n", routes).replace("<!-- codes -->\n", codes)


def _route(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    summary = operation["summary"] if operation["summary"].endswith("?") else f"{operation['summary']}."
    parts = [f"### {method} {path}\n", f"{summary} {operation.get('description', '')}".strip() + "\n"]
    examples = [example.replace("{base}", _BASE) for example in CURL.get(f"{method} {path}", CURL.get(path, ()))]
    if examples:
        parts.append("".join(f"    {line}\n" for line in examples))
    content = operation.get("requestBody", {}).get("content", {})
    parameters = [one for one in operation.get("parameters", ()) if not content or one["in"] == "path"]
    if parameters:
        rows = ((f"`{one['name']}`", one["in"], one.get("description", "")) for one in parameters)
        parts.append(_table(("parameter", "in", ""), rows))
    if content:
        parts.append(f"Body: {', '.join(f'`{name}`' for name in content)}.\n")
        schema = _resolved(content["application/json"]["schema"], document)
        parts.append(_table(("field", "type", "default", ""), _fields(schema)))
    good = next(iter(operation["responses"].values())).get("content", {})
    schema = _resolved(good.get("application/json", {}).get("schema", {}), document)
    if schema.get("properties"):
        parts.append("Answer:\n")
        parts.append(_table(("member", "type", ""), _members(schema, document)))
    refusals = [
        f"{status} {response['description'].removeprefix('Codes: ')}"
        for status, response in operation["responses"].items()
        if status >= "400"
    ]
    if refusals:
        parts.append("Refusals: " + " · ".join(refusals) + "\n")
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    required = set(schema.get("required", ()))
    for name, field in schema["properties"].items():
        default = "required" if name in required else f"`{json.dumps(field['default'])}`" if "default" in field else ""
        yield f"`{name}`", _type(field), default, field.get("description", "")


def _members(schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "") -> Iterator[Sequence[str]]:
    """The members of an answer, those of its objects and lists of objects below them."""
    for name, field in schema["properties"].items():
        plain = _resolved(field, document)
        yield f"`{prefix}{name}`", _type(field), plain.get("description", field.get("description", ""))
        inner = _resolved(plain.get("items", {}), document) if plain.get("type") == "array" else plain
        if inner.get("properties") and prefix.count(".") < 2:
            yield from _members(inner, document, f"{prefix}{name}{'[]' if inner is not plain else ''}.")


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself: behind its reference, and without the null it may also be."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        schema = {**{name: value for name, value in schema.items() if name != "anyOf"}, **options[0]}
    if "$ref" in schema:
        found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return "object"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(option) for option in field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}s"
    return str(field.get("type", "any"))


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")
