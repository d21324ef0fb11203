"""What the examples do at their edges, without what they show RECO together with: large photos, keys, refusals."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest

from service.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
STRANGERS = ("langchain_openai", "llama_index.embeddings.openai_like", "qdrant_client", "qdrant_client.models")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in STRANGERS:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    for package in ("llama_index", "llama_index.embeddings"):
        monkeypatch.setitem(sys.modules, package, MagicMock())

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(
    ("name", "make", "made"),
    [("langchain_embeddings", "embeddings", "OpenAIEmbeddings"),
     ("llamaindex_embeddings", "embedding", "OpenAILikeEmbedding")],
)  # fmt: skip
def test_the_openai_classes_give_the_key_and_tell_a_refusal(
    load: Any, name: str, make: str, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[httpx.Request]()

    def get(url: str, **options: Any) -> httpx.Response:
        asked.append(httpx.Request("GET", url, headers=options.get("headers")))
        known = asked[-1].headers.get("Authorization") == "Bearer reco_key"
        body = {"data": [{"id": "clip"}]} if known else {"code": "unauthorized"}
        return httpx.Response(200 if known else 401, json=body, request=asked[-1])

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setenv("RECO_API_KEY", "reco_key")
    example = load(name)
    getattr(example, make)("http://127.0.0.1:8000")
    assert getattr(example, made).call_args.kwargs["api_key"] == "reco_key"
    monkeypatch.delenv("RECO_API_KEY")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        getattr(example, make)("http://127.0.0.1:8000")


def test_photos_of_a_phone_go_into_requests_that_are_taken(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_API_KEY", "reco_key")
    example, sizes, keys = load("qdrant_gallery"), [6_000_000] * 13 + [100] * 40, set[str]()
    bodies = list[int]()

    def post(url: str, **options: Any) -> httpx.Response:
        request = httpx.Request("POST", url, **{name: options.get(name) for name in ("files", "data", "headers")})
        bodies.append(len(request.read()))
        keys.add(request.headers.get("Authorization", ""))
        answered = [{"embedding": [1.0, 0.0]}] * len(options["files"])
        return httpx.Response(200, json={"data": answered}, request=request)

    monkeypatch.setattr(httpx, "post", post)
    for number, size in enumerate(sizes):
        (tmp_path / f"{number:02}.jpg").write_bytes(bytes(size))
    assert example.embed_images("http://127.0.0.1:8000", sorted(tmp_path.iterdir())).shape == (len(sizes), 2)
    assert max(bodies) <= Settings.model_fields["max_body_bytes"].default
    assert len(bodies) == 3
    assert keys == {"Bearer reco_key"}
