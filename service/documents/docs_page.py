"""`/docs`: one offline page made from our own OpenAPI document, with curl examples.

Nothing is loaded from elsewhere; the `type` of a problem leads to a row of its table of codes.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from service.problems import KINDS

ADDRESS = "{base}"  # in the page, where the reader reached us
_TEMPLATE = Path(__file__).parent / "docs.html"
CURL: Mapping[str, tuple[str, ...]] = {
    "/embed/image": (
        "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' '{base}/embed/image?k=5'",
        "curl -F files=@one.jpg -F files=@two.png -F on_error=partial {base}/embed/image",
        'curl --json \'{"images": ["\'"$(base64 -w0 photo.jpg)"\'"]}\' {base}/embed/image',
        "curl -F files=@photo.jpg -H 'Accept: application/x-npy' {base}/embed/image -o embedding.npy",
    ),
    "/embed/text": ('curl --json \'{"texts": ["a puffin", "a razorbill"], "k": 5}\' {base}/embed/text',),
    "/classify": ('curl -F files=@photo.jpg -F \'labels=["puffin", "razorbill"]\' -F compare=true {base}/classify',),
    "/v1/embeddings": (
        'curl --json \'{"model": "NAME", "input": ["a puffin", {"image": "BASE64"}]}\' {base}/v1/embeddings',
        'OpenAI(base_url="{base}/v1", api_key="none").embeddings.create(model="NAME", input=["a puffin"])',
    ),
    "/v1/models": ("curl {base}/v1/models",),
    "/v1/models/{model}": ("curl {base}/v1/models/NAME",),
    "/label_sets": ("curl {base}/label_sets",),
    "/label_sets/{name}": ("curl {base}/label_sets/NAME",),
    "PUT /label_sets/{name}": (
        "curl -X PUT -H 'Authorization: Bearer KEY' --data @birds.json {base}/label_sets/birds",
        'curl -X PUT -H \'Authorization: Bearer KEY\' --json \'{"labels": ["puffin", "gull"]}\' {base}/label_sets/x',
    ),
    "DELETE /label_sets/{name}": ("curl -X DELETE -H 'Authorization: Bearer KEY' {base}/label_sets/NAME",),
    "/operator/reload": ("curl -X POST -H 'Authorization: Bearer KEY' {base}/operator/reload",),
    "GET /operator/pairs": ("curl -H 'Authorization: Bearer KEY' '{base}/operator/pairs?limit=10'",),
    "POST /operator/pairs": (
        "curl -H 'Authorization: Bearer KEY' -F files=@photo.jpg -F name=puffin {base}/operator/pairs",
    ),
    "GET /operator/pairs/{key}": ("curl -H 'Authorization: Bearer KEY' {base}/operator/pairs/mine/0001",),
    "DELETE /operator/pairs/{key}": ("curl -X DELETE -H 'Authorization: Bearer KEY' {base}/operator/pairs/mine/0001",),
    "/memory": ("curl {base}/memory",),
    "/memory/items": ("curl '{base}/memory/items?sample=24&seed=1'",),
    "/memory/items/{id}/thumbnail": ("curl {base}/memory/items/0/thumbnail -o thumbnail.jpg",),
    "/readyz": ("curl {base}/readyz",),
}


def render_docs(openapi: Mapping[str, Any]) -> str:
    """The page of an app's OpenAPI document, with ADDRESS in the examples for what makes them ready to be pasted."""
    operations = "\n".join(
        _operation(method, path, operation, openapi["components"]["schemas"])
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    codes = "\n".join(
        f'<tr id="{code}">{_cells(f"<code>{code}</code>", str(kind.status), html.escape(kind.title))}</tr>'
        for code, kind in KINDS.items()
    )
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    info = openapi["info"]
    return template.substitute(
        title=html.escape(info["title"]),
        version=html.escape(info["version"]),
        description=html.escape(info.get("description", "")),
        operations=operations,
        codes=codes,
    )


def _cells(*contents: str) -> str:
    return "".join(f"<td>{content}</td>" for content in contents)


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parts = [
        f"<section><h2><code>{method.upper()} {path}</code> {html.escape(operation['summary'])}</h2>",
        f"<p>{html.escape(operation.get('description', ''))}</p>",
    ]
    examples = "\n".join(CURL.get(f"{method.upper()} {path}", CURL.get(path, ())))
    if examples:
        parts.append(f"<pre>{html.escape(examples)}</pre>")
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        parts.append(f"<p>Content types: {', '.join(f'<code>{html.escape(name)}</code>' for name in content)}</p>")
        parts.append(_fields(schemas[content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]]))
    parts.append("</section>")
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = []
    for name, field in schema["properties"].items():
        default = "required" if name in required else json.dumps(field["default"]) if "default" in field else ""
        told = html.escape(field.get("description", ""))
        cells = _cells(f"<code>{html.escape(name)}</code>", _type(field), html.escape(default), told)
        rows.append(f"<tr>{cells}</tr>")
    head = "<tr><th>field</th><th>type</th><th>default</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(html.escape(json.dumps(value)) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return html.escape(str(field.get("type", "")))
