"""`/v1`, asked by the real `openai` client: what it gets, how it names it, and what it is told when it is wrong."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from service.pipeline.engine import Engine

TEXTS = ["a red bird", "two umbrellas in the rain"]


@pytest.fixture(scope="module")
def asked(service: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def rows(answer: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([item.embedding for item in answer.data], dtype=np.float32)


def native(client: httpx.Client, path: str, **body: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return np.array([item["embedding"] for item in answer.json()["data"]], dtype=np.float32)


def test_texts_are_those_of_the_native_route(asked: openai.OpenAI, client: httpx.Client, engine: Engine) -> None:
    answer = asked.embeddings.create(model="tiny-clip", input=TEXTS)  # the client asks for base64 by itself
    np.testing.assert_allclose(rows(answer), native(client, "/embed/text", texts=TEXTS), atol=1e-6)
    assert (answer.object, answer.model, [item.index for item in answer.data]) == ("list", "tiny-clip", [0, 1])
    told = answer.model_extra or {}
    assert (told["space"], told["memory_version"], told["fusion"]) == (engine.space, 1, engine.fusion_id)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_both_encodings_hold_the_same_numbers(asked: openai.OpenAI, client: httpx.Client, encoding_format: Any) -> None:
    answer = asked.embeddings.create(model="tiny-clip", input=TEXTS[0], encoding_format=encoding_format)
    [item] = answer.data
    if encoding_format == "base64":
        vector = np.frombuffer(base64.b64decode(str(item.embedding)), dtype="<f4")
    else:
        vector = np.array(item.embedding, dtype=np.float32)
    np.testing.assert_allclose(vector, native(client, "/embed/text", texts=TEXTS[0])[0], atol=1e-6)


def test_plain_is_the_frozen_encoder(asked: openai.OpenAI, client: httpx.Client, engine: Engine) -> None:
    answer = asked.embeddings.create(model="tiny-clip:plain", input=TEXTS)
    np.testing.assert_allclose(rows(answer), native(client, "/embed/text", texts=TEXTS, enhance=False), atol=1e-6)
    assert (answer.model_extra or {})["space"] == engine.original_space
    assert np.abs(rows(answer) - native(client, "/embed/text", texts=TEXTS)).max() > 0.01


def test_images_come_as_data_uris_between_texts(
    asked: openai.OpenAI, client: httpx.Client, photo_bytes: dict[str, bytes]
) -> None:
    photos = [base64.b64encode(photo_bytes[name]).decode() for name in ("jpeg", "webp")]
    mixed = [f"data:image/jpeg;base64,{photos[0]}", TEXTS[0], f"data:image/webp;base64,{photos[1]}", TEXTS[1]]
    answer = rows(asked.embeddings.create(model="tiny-clip", input=mixed))
    np.testing.assert_allclose(answer[::2], native(client, "/embed/image", images=photos), atol=1e-5)
    np.testing.assert_allclose(answer[1::2], native(client, "/embed/text", texts=TEXTS), atol=1e-5)


def test_the_list_of_jina(client: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    photo = base64.b64encode(photo_bytes["png"]).decode()
    body = {
        "model": "tiny-clip",
        "input": [{"text": TEXTS[0]}, {"image": photo}, {"image": f"data:image/png;base64,{photo}"}, TEXTS[1]],
        "embedding_type": "float",
        "normalized": True,
    }
    vectors = native(client, "/v1/embeddings", **body)
    np.testing.assert_allclose(vectors[[0, 3]], native(client, "/embed/text", texts=TEXTS), atol=1e-5)
    np.testing.assert_allclose(vectors[1:3], native(client, "/embed/image", images=[photo] * 2), atol=1e-5)


def test_as_many_objects_as_strings_are_taken(serve: Any) -> None:
    with serve(max_texts=1000, max_labels=50) as service:
        [name, _] = [one["id"] for one in service.client.get("/v1/models").json()["data"]]
        for item in ("a", {"text": "a"}):
            answer = service.client.post("/v1/embeddings", json={"model": name, "input": [item] * 1000})
            assert answer.status_code == 200, answer.text


def test_the_tokens_of_texts_are_counted(asked: openai.OpenAI, engine: Engine) -> None:
    usage = asked.embeddings.create(model="tiny-clip", input=TEXTS).usage
    tokens = engine.encoder.tokenize(TEXTS).ids
    expected = int((tokens.argmax(dim=1) + 1).sum())  # the end mark has the largest id
    assert (usage.prompt_tokens, usage.total_tokens) == (expected, expected)


def test_both_models_are_listed_and_found(asked: openai.OpenAI, engine: Engine) -> None:
    models = asked.models.list().data
    assert [(model.id, model.object) for model in models] == [("tiny-clip", "model"), ("tiny-clip:plain", "model")]
    told = [model.model_extra or {} for model in models]
    assert [one["space"] for one in told] == [engine.space, engine.original_space]
    assert [one["enhanced"] for one in told] == [True, False]
    assert asked.models.retrieve("tiny-clip:plain").id == "tiny-clip:plain"
    with pytest.raises(openai.NotFoundError) as refused:
        asked.models.retrieve("text-embedding-3-small")
    assert refused.value.code == "model_not_found"


def test_without_a_fusion_both_names_are_the_frozen_encoder(serve: Any, make_settings: Any) -> None:
    engine = Engine.open(make_settings(fusion=None))
    with serve(engine=engine, fusion=None) as plain:
        models = plain.client.get("/v1/models").json()["data"]
        assert [model["enhanced"] for model in models] == [False, False]
        body = {"model": "tiny-clip", "input": TEXTS}
        np.testing.assert_allclose(
            native(plain.client, "/v1/embeddings", **body),
            native(plain.client, "/v1/embeddings", **body | {"model": "tiny-clip:plain"}),
            atol=1e-6,
        )


def test_the_embeddings_own_length_may_be_named(asked: openai.OpenAI) -> None:
    assert rows(asked.embeddings.create(model="tiny-clip", input="a", dimensions=128)).shape == (1, 128)


REFUSED = [
    ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found", "model"),
    ({"dimensions": 64}, openai.BadRequestError, "dimensions_unsupported", "dimensions"),
    ({"input": [1, 2, 3]}, openai.BadRequestError, "token_ids_unsupported", "input[0]"),
    ({"input": [[1, 2], [3]]}, openai.BadRequestError, "token_ids_unsupported", "input[0]"),
    ({"input": []}, openai.BadRequestError, "batch_empty", None),
    ({"input": ""}, openai.BadRequestError, "text_empty", "input"),
    ({"input": ["a", "", "\x07"]}, openai.BadRequestError, "text_empty", "input[1]"),
    ({"input": ["a"] * 257}, openai.BadRequestError, "batch_too_large", None),
    ({"input": ["a", "data:image/png;base64,!!!!"]}, openai.BadRequestError, "base64_invalid", "input[1]"),
    ({"input": ["a", "data:image/png;base64,QUJD"]}, openai.APIStatusError, "image_format_unsupported", "input[1]"),
    ({"input": [{"image": "https://example.org/a.png"}]}, openai.BadRequestError, "url_not_supported", "input[0]"),
    ({"input": [{"text": "a", "image": "b"}]}, openai.BadRequestError, "field_invalid", "input[0]"),
    ({"input": [True]}, openai.BadRequestError, "field_invalid", "input[0]"),
    ({"extra_body": {"task": "x"}}, openai.BadRequestError, "field_unknown", None),
    ({"extra_body": {"normalized": False}}, openai.BadRequestError, "field_invalid", "normalized"),
    ({"extra_body": {"embedding_type": "float"}}, openai.BadRequestError, "option_conflict", "embedding_type"),
]


@pytest.mark.parametrize(
    ("change", "error", "code", "param"), REFUSED, ids=[f"{n}-{c[2]}" for n, c in enumerate(REFUSED)]
)
def test_refusals_are_errors_of_the_client(
    asked: openai.OpenAI, change: dict[str, Any], error: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    call: Any = {"model": "tiny-clip", "input": "a", "encoding_format": "base64"} | change
    with pytest.raises(error) as refused:
        asked.embeddings.create(**call)
    told = refused.value
    assert (told.code, told.param, told.type) == (code, param, "invalid_request_error")
    assert isinstance(told.body, dict)
    assert set(told.body) == {"message", "type", "param", "code"}
    assert told.request_id


def test_an_unknown_path_and_a_broken_body_have_the_form_too(client: httpx.Client) -> None:
    for answer, status, code in (
        (client.get("/v1/nowhere"), 404, "not_found"),
        (client.get("/v1/embeddings"), 405, "method_not_allowed"),
        (client.post("/v1/embeddings", content=b"{"), 415, "media_type_unsupported"),
        (
            client.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"}),
            400,
            "json_invalid",
        ),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/json"


def test_not_ready_is_a_server_error_with_a_time_to_come_back(serve: Any, make_settings: Any) -> None:
    with serve(engine=None, memory="/nowhere", ready=False) as broken:
        while broken.client.get("/readyz").json().get("reason") == "starting":
            pass
        asked = openai.OpenAI(base_url=f"{broken.url}/v1", api_key="none", max_retries=0)
        with asked, pytest.raises(openai.InternalServerError) as refused:
            asked.embeddings.create(model="tiny-clip", input="a")
        assert refused.value.response.headers["retry-after"] == "1"
        assert (refused.value.code, refused.value.type) == ("not_ready", "server_error")
