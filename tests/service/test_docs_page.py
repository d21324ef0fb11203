"""The documentation: offline, complete, and its examples are accepted by the service itself."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.documents.api_reference import documents
from service.documents.docs_page import CURL
from service.openai_errors import openai_status
from service.problems import KINDS
from service.settings import Settings


@pytest.fixture(scope="module")
def openapi(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", answer.text) + re.findall(r"url\(([^)]*)", answer.text)
    assert set(loaded) == {"data:,", "/openapi.json"}
    assert "<script" not in answer.text


def test_the_page_has_every_route_and_every_code(client: httpx.Client, openapi: Any) -> None:
    page = client.get("/docs").text
    for path in openapi["paths"]:
        assert f" {path}</code>" in page
    for code in KINDS:
        assert f'<tr id="{code}">' in page


def test_the_page_escapes_the_host_of_the_reader(client: httpx.Client) -> None:
    page = client.get("/docs", headers={"Host": 'a"><script>alert(1)</script>'}).text
    assert "<script" not in page


def test_every_route_and_its_stable_name(openapi: Any) -> None:
    named = {
        (method, path): operation["operationId"]
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }
    assert named == {
        ("post", "/embed/image"): "embed_image",
        ("post", "/embed/text"): "embed_text",
        ("post", "/classify"): "classify",
        ("post", "/v1/embeddings"): "openai_embeddings",
        ("get", "/v1/models"): "openai_models",
        ("get", "/v1/models/{model}"): "openai_model",
        ("get", "/label_sets"): "label_sets",
        ("get", "/label_sets/{name}"): "label_set",
        ("put", "/label_sets/{name}"): "put_label_set",
        ("delete", "/label_sets/{name}"): "delete_label_set",
        ("post", "/operator/reload"): "operator_reload",
        ("post", "/operator/pairs"): "operator_add_pairs",
        ("get", "/operator/pairs"): "operator_pairs",
        ("get", "/operator/pairs/{key}"): "operator_pair",
        ("delete", "/operator/pairs/{key}"): "operator_remove_pair",
        ("get", "/memory"): "memory",
        ("get", "/memory/items"): "memory_items",
        ("get", "/memory/items/{id}/thumbnail"): "memory_thumbnail",
        ("get", "/livez"): "livez",
        ("get", "/readyz"): "readyz",
        ("get", "/metrics"): "metrics",
    }


def test_the_document_is_self_contained_and_never_speaks_of_fastapis_own_errors(openapi: Any) -> None:
    assert "HTTPValidationError" not in str(openapi)
    for name in re.findall(r"'\$ref': '([^']*)'", str(openapi)):
        assert name.removeprefix("#/components/schemas/") in openapi["components"]["schemas"]


@pytest.mark.parametrize("name", ["api.md", "openapi.json"])
def test_the_committed_documents_are_those_of_the_code(name: str) -> None:
    committed = Path(__file__).parents[2] / "docs" / name
    assert committed.read_text(encoding="utf-8") == documents()[name], f"docs/{name} is not fresh: run `make docs`"


def test_every_route_tells_its_headers_keys_and_every_input_form_has_an_example(openapi: Any) -> None:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            assert all("X-Request-ID" in response["headers"] for response in operation["responses"].values())
            if path in ("/livez", "/readyz", "/metrics"):
                assert "security" not in operation
                continue
            operator = path.startswith("/operator/") or method in ("put", "delete")
            assert operation["security"] == ([{"key": []}] if operator else [{"key": []}, {}])
            assert {"401", "403", "404" if operator else "429"} <= set(operation["responses"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content.get("examples") or content.get("example")
    assert {"X-Reco-Space", "Server-Timing"} <= set(
        openapi["paths"]["/classify"]["post"]["responses"]["200"]["headers"]
    )


def operations(openapi: Any) -> Iterator[tuple[str, str, Any]]:
    """Method, path and declaration of every route."""
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_limit_that_a_field_names_has_its_default_beside_it(openapi: Any) -> None:
    named = re.findall(r"RECO_(MAX_[A-Z_]+)(?:,? \(?([\d,]*\d))?", json.dumps(openapi))
    assert named
    for name, told in named:
        assert told.replace(",", "") == str(Settings.model_fields[name.lower()].default), name


def test_a_generated_client_sends_no_option_in_the_query_unless_it_is_given(openapi: Any) -> None:
    # It sends what has a default, and beside a JSON body the query is refused.
    for _, path, operation in operations(openapi):
        if "requestBody" in operation:
            assert not [one["name"] for one in operation.get("parameters", ()) if "default" in one["schema"]], path


def test_request_bodies_have_names_to_generate_classes_from(openapi: Any) -> None:
    named = {
        path: [content["schema"].get("$ref", "?").rsplit("/", 1)[-1] for content in body["content"].values()][:2]
        for _, path, operation in operations(openapi)
        if (body := operation.get("requestBody"))
    }
    assert named == {
        "/embed/image": ["EmbedImageRequest", "EmbedImageForm"],
        "/embed/text": ["EmbedTextRequest"],
        "/classify": ["ClassifyRequest", "ClassifyForm"],
        "/v1/embeddings": ["EmbeddingsRequest"],
        "/label_sets/{name}": ["LabelSetRequest"],
        "/operator/pairs": ["PairsRequest", "PairsForm"],
    }


def test_no_refusal_is_told_twice(openapi: Any) -> None:
    for _, path, operation in operations(openapi):
        for response in operation["responses"].values():
            codes = re.findall(r"`(\w+)`", response["description"])
            assert len(codes) == len(set(codes)), path


def test_an_example_with_curl_asks_what_it_stands_beside(openapi: Any) -> None:
    for method, path, _ in operations(openapi):
        for example in CURL.get(f"{method} {path}", CURL.get(path, ())):
            if example.startswith("curl"):
                said = re.search(r"-X (\w+)", example)
                sends = re.search(r" (-F|--json|--data\S*) ", example)
                assert (said[1] if said else "POST" if sends else "GET") == method, example


def examples_of(operation: Any) -> list[Any]:
    """The request bodies of a route's documentation; the served model's name is a stand-in there."""
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    bodies = [dict(example["value"]) for example in examples.values()]
    for body in bodies:
        if "model" in body:
            body["model"] = body["model"].replace("reco", "tiny-clip")
    return bodies


@pytest.mark.parametrize("path", ["/embed/image", "/embed/text", "/classify", "/v1/embeddings"])
def test_every_example_is_accepted(client: httpx.Client, openapi: Any, path: str) -> None:
    examples = examples_of(openapi["paths"][path]["post"])
    assert examples
    for example in examples:
        answer = client.post(path, json=example)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path",
    ["/embed/image", "/embed/text", "/classify", "/v1/embeddings", "/v1/models", "/memory", "/label_sets"],
)
def test_answers_have_the_documented_fields(client: httpx.Client, openapi: Any, path: str) -> None:
    operation = next(iter(openapi["paths"][path].values()))
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    if "requestBody" in operation:
        answers = [client.post(path, json=example).json() for example in examples_of(operation)]
    else:
        answers = [client.get(path).json()]
    for answer in answers:
        _has_only(answer, schema, openapi["components"]["schemas"])


def _has_only(value: Any, schema: Any, named: Any) -> None:
    """Every member is documented and every required one is there, at any depth."""
    options = [
        named[option["$ref"].rsplit("/", 1)[1]] if "$ref" in option else option
        for option in schema.get("anyOf", [schema])
    ]
    if isinstance(value, dict):
        [described] = [option for option in options if option.get("type") == "object"]
        if "properties" not in described:
            return
        assert set(value) <= set(described["properties"])
        assert set(described.get("required", ())) <= set(value)
        for name, member in value.items():
            _has_only(member, described["properties"][name], named)
    elif isinstance(value, list):
        [described] = [option for option in options if option.get("type") == "array"]
        for member in value:
            _has_only(member, described["items"], named)


def test_whoever_sends_a_body_is_told_what_reading_it_refuses(openapi: Any) -> None:
    for path, methods in openapi["paths"].items():
        for method in {"post", "put"} & set(methods):
            described = [response["description"] for response in methods[method]["responses"].values()]
            codes = set(re.findall(r"`(\w+)`", " ".join(described)))
            assert {"body_too_large", "bodies_full", "content_encoding_unsupported"} <= codes, path


def test_documented_statuses_cover_every_code(openapi: Any) -> None:
    told = set()
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                codes = re.findall(r"`(\w+)`", response["description"])
                expected = openai_status if path.startswith("/v1/") else (lambda code: KINDS[code].status)
                assert all(expected(code) == int(status) for code in codes)
                told |= set(codes)
    # What any path can answer is told once, on the page.
    everywhere = {"not_found", "method_not_allowed", "request_invalid"}
    of_the_connection = {"receive_timeout", "chunks_too_small", "headers_too_large", "too_many_connections"}
    of_another = {"label_set_unreadable"}  # the reason that a label set is not found
    assert set(KINDS) - told == everywhere - {"not_found"} | of_the_connection | of_another
