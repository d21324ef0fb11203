"""The embed routes on a real port: parity with the encoder in every form, and every option of the answer."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from memory import Modality
from service.pipeline.engine import Engine

TEXTS = ["a red bird", "two umbrellas in the rain", "a duck on the water"]
FORMS = ("json", "data_uri", "multipart", "raw")


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def send(client: httpx.Client, form: str, data: bytes, **options: Any) -> httpx.Response:
    """One image in one of the forms."""
    words = {name: json.dumps(value).strip('"') for name, value in options.items()}
    if form == "json":
        return client.post("/embed/image", json={"images": [encode(data)], **options})
    if form == "data_uri":
        return client.post("/embed/image", json={"images": [f"data:image/any;base64,{encode(data)}"], **options})
    if form == "multipart":
        return client.post("/embed/image", files={"files": ("x", data)}, data=words)
    return client.post("/embed/image", content=data, params=words, headers={"Content-Type": "image/png"})


def vectors(answer: httpx.Response, name: str = "embedding") -> np.ndarray[Any, np.dtype[np.float32]]:
    assert answer.status_code == 200, answer.text
    return np.array([item[name] for item in answer.json()["data"]], dtype=np.float32)


def originals(engine: Engine, modality: Modality, inputs: list[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One at a time, straight from the encoder: the slow truth."""
    encoder = engine.encoder
    if modality == "text":
        return np.concatenate([encoder.encode_text(encoder.tokenize([text]).ids) for text in inputs])
    return np.concatenate([encoder.encode_image(encoder.preprocess(data)[None]) for data in inputs])


def cosines(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> Any:
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, atol=1e-5)
    return (left * right).sum(axis=1).min()


@pytest.mark.parametrize("form", FORMS)
def test_parity_of_each_photo_in_each_form(
    client: httpx.Client, engine: Engine, photo_bytes: dict[str, bytes], form: str
) -> None:
    for name, data in photo_bytes.items():
        original = originals(engine, "image", [data])
        refined = engine.composed.refine(original, modality="image").embeddings
        answer = send(client, form, data, return_original=True)
        assert cosines(vectors(answer, "original"), original) >= 0.99999, name
        assert cosines(vectors(answer), refined) >= 0.99999, name
        assert cosines(vectors(send(client, form, data, enhance=False)), original) >= 0.99999, name


def test_the_fusion_of_these_tests_moves_embeddings(engine: Engine, photo_bytes: dict[str, bytes]) -> None:
    """Else the parity of enhanced embeddings would prove nothing."""
    original = originals(engine, "image", list(photo_bytes.values()))
    assert ((original * engine.composed.refine(original, modality="image").embeddings).sum(axis=1) < 0.9).all()


def test_a_row_does_not_depend_on_its_company(
    client: httpx.Client, engine: Engine, photo_bytes: dict[str, bytes]
) -> None:
    photos = list(photo_bytes.values())
    expected = engine.composed.refine(originals(engine, "image", photos), modality="image").embeddings
    batched = client.post("/embed/image", files=[("files", photo) for photo in photos])
    assert cosines(vectors(batched), expected) >= 0.99999
    with ThreadPoolExecutor(8) as pool:  # each request alone, all at once: they meet in the batcher
        singles = list(pool.map(lambda photo: vectors(send(client, "raw", photo)), photos * 4))
    assert cosines(np.concatenate(singles), np.tile(expected, (4, 1))) >= 0.99999


def test_texts_agree_with_the_encoder(client: httpx.Client, engine: Engine) -> None:
    original = originals(engine, "text", TEXTS)
    refined = engine.composed.refine(original, modality="text", k=3).embeddings
    answer = client.post("/embed/text", json={"texts": TEXTS, "k": 3, "return_original": True})
    assert cosines(vectors(answer), refined) >= 0.99999
    assert cosines(vectors(answer, "original"), original) >= 0.99999
    assert [item["truncated"] for item in answer.json()["data"]] == [False] * 3
    one = client.post("/embed/text", json={"texts": TEXTS[0], "k": 3})
    assert cosines(vectors(one), refined[:1]) >= 0.99999


def test_each_query_of_a_batch_keeps_its_own_k(client: httpx.Client, engine: Engine) -> None:
    original = originals(engine, "text", TEXTS[:1])
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda k: vectors(client.post("/embed/text", json={"texts": TEXTS[0], "k": k})), range(1, 9))
        )
    for k, answer in enumerate(answers, start=1):
        expected = engine.composed.refine(original, modality="text", k=k).embeddings
        assert cosines(answer, expected) >= 0.99999


@pytest.mark.parametrize("enhance", [True, False])
def test_neighbours_are_those_of_the_memory(client: httpx.Client, engine: Engine, enhance: bool) -> None:
    answer = client.post(
        "/embed/text", json={"texts": TEXTS, "k": 5, "return_neighbours": True, "enhance": enhance}
    ).json()
    found = engine.memory.search(originals(engine, "text", TEXTS), 5, modality="text")
    for item, ids, similarities in zip(answer["data"], found.ids, found.similarities, strict=True):
        assert [neighbour["id"] for neighbour in item["neighbours"]] == ids.tolist()
        assert [neighbour["similarity"] for neighbour in item["neighbours"]] == pytest.approx(similarities, abs=1e-5)
        assert [(n["key"], n["caption"]) for n in item["neighbours"]] == [
            (stored.key, stored.caption) for stored in engine.memory.items(ids)
        ]


def test_more_neighbours_than_items_gives_those_there_are(client: httpx.Client, engine: Engine) -> None:
    answer = client.post("/embed/text", json={"texts": "a duck", "k": 100, "return_neighbours": True})
    ids = [neighbour["id"] for neighbour in answer.json()["data"][0]["neighbours"]]
    assert sorted(ids) == list(range(engine.memory.num_items))


def test_base64_is_little_endian_float32_of_the_same_numbers(client: httpx.Client) -> None:
    plain = vectors(client.post("/embed/text", json={"texts": TEXTS}))
    packed = client.post("/embed/text", json={"texts": TEXTS, "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in packed["data"]]
    np.testing.assert_allclose(np.stack(rows), plain, atol=1e-6)


@pytest.mark.parametrize("path", ["/embed/text", "/embed/image"])
def test_npy_is_a_plain_array(client: httpx.Client, photo_bytes: dict[str, bytes], path: str) -> None:
    body = {"texts": TEXTS} if path == "/embed/text" else {"images": [encode(photo_bytes["png"])] * 3}
    answer = client.post(path, json=body, headers={"Accept": "application/x-npy, */*;q=0.1"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-npy")
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert (array.shape, array.dtype.str) == ((3, 128), "<f4")
    assert cosines(array, vectors(client.post(path, json=body))) >= 0.99999
    assert {"x-reco-model", "x-reco-space", "x-reco-memory-version", "x-reco-fusion"} <= set(answer.headers)


@pytest.mark.parametrize(
    ("accept", "is_npy"),
    [
        ("application/json, application/x-npy", True),
        ("application/x-npy;q=0.5, application/json; q=0.5", True),
        ("application/json, application/x-npy;q=0", False),
        ("application/json, application/x-npy;q=0.1", False),
        ("application/x-npy;q=0", False),
        ("APPLICATION/X-NPY ; Q=1.0", True),
        ("application/x-npy;q=none", True),
    ],
)
def test_npy_is_what_is_wanted_most(client: httpx.Client, accept: str, is_npy: bool) -> None:
    answer = client.post("/embed/text", json={"texts": TEXTS}, headers={"Accept": accept})
    assert (answer.headers["content-type"] == "application/x-npy") == is_npy


def test_npy_says_in_a_header_which_texts_were_cut(client: httpx.Client) -> None:
    body = {"texts": ["short", "word " * 200, "bird"]}
    answer = client.post("/embed/text", json=body, headers={"Accept": "application/x-npy"})
    assert answer.headers["x-reco-truncated"] == "1"


@pytest.mark.parametrize(
    "option",
    [{"return_original": True}, {"return_neighbours": True}, {"encoding_format": "base64"}, {"on_error": "partial"}],
)
def test_npy_has_no_room_for_more(client: httpx.Client, option: dict[str, Any]) -> None:
    answer = client.post("/embed/text", json={"texts": TEXTS, **option}, headers={"Accept": "application/x-npy"})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_conflict")


def test_every_answer_says_where_its_vectors_come_from(client: httpx.Client, engine: Engine) -> None:
    enhanced = client.post("/embed/text", json={"texts": TEXTS, "return_original": True})
    plain = client.post("/embed/text", json={"texts": TEXTS, "enhance": False})
    told = {name: enhanced.json()[name] for name in ("model", "memory_version", "fusion", "space", "enhanced")}
    assert told == {
        "model": "tiny-clip",
        "memory_version": 1,
        "fusion": engine.fusion_id,
        "space": engine.space,
        "enhanced": True,
    }
    assert plain.json()["space"] == enhanced.json()["original_space"] == engine.original_space != engine.space
    assert enhanced.headers["x-reco-space"] == engine.space
    assert enhanced.json()["usage"] == {"items": 3}


def test_partial_answers_the_good_and_names_the_bad(client: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    good, cut = encode(photo_bytes["jpeg"]), encode(photo_bytes["jpeg"][:500])
    body = {"images": [good, "!!!!", cut, good], "on_error": "partial"}
    answer = client.post("/embed/image", json=body)
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert [item.get("error", {}).get("code") for item in data] == [None, "base64_invalid", "image_truncated", None]
    assert [item.get("error", {}).get("pointer") for item in data] == [None, "/images/1", "/images/2", None]
    assert ["embedding" in item for item in data] == [True, False, False, True]
    np.testing.assert_allclose(data[0]["embedding"], data[3]["embedding"], atol=1e-5)


@pytest.mark.parametrize("form", ["multipart", "raw"])
def test_an_image_that_is_too_large_is_one_bad_item(serve: Any, photo_bytes: dict[str, bytes], form: str) -> None:
    small = photo_bytes["jpeg"]
    with serve(max_image_bytes=len(small)) as service:
        for on_error, status in (("partial", 200), ("fail", 413)):
            if form == "raw":
                path, sent = f"/embed/image?on_error={on_error}", {"content": small + b"x"}
                answer = service.client.post(path, headers={"Content-Type": "image/jpeg"}, **sent)
                place = 0
            else:
                files = [("files", ("a", one)) for one in (small, small + b"x", small)]
                answer = service.client.post("/embed/image", files=files, data={"on_error": on_error})
                place = 1
            assert answer.status_code == status
            told = answer.json()
            error = told["data"][place]["error"] if status == 200 else told["errors"][0]
            assert (error["code"], error["pointer"]) == ("image_too_large", f"/images/{place}")
            assert status == 200 or told["limit"] == len(small)
            assert status != 200 or ["embedding" in item for item in told["data"]].count(False) == 1


def test_fail_names_every_bad_item(client: httpx.Client) -> None:
    answer = client.post("/embed/text", json={"texts": ["ok", "", "a\x00b", "ok", "x" * 2001]})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "text_empty")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/texts/1", "text_empty"),
        ("/texts/2", "text_control_character"),
        ("/texts/4", "text_too_long"),
    ]


def test_partial_texts(client: httpx.Client, engine: Engine) -> None:
    body = {"texts": ["", TEXTS[0], "<end_of_text>", TEXTS[1]], "on_error": "partial", "enhance": False}
    data = client.post("/embed/text", json=body).json()["data"]
    assert [item.get("error", {}).get("code") for item in data] == ["text_empty", None, "text_special_token", None]
    rows = np.array([data[1]["embedding"], data[3]["embedding"]], dtype=np.float32)
    assert cosines(rows, originals(engine, "text", TEXTS[:2])) >= 0.99999


def test_without_a_fusion_nothing_is_enhanced_and_the_answer_says_so(serve: Any, make_settings: Any) -> None:
    engine = Engine.open(make_settings(fusion=None))
    with serve(engine=engine, fusion=None) as plain:
        answer = plain.client.post("/embed/text", json={"texts": TEXTS}).json()
        assert (answer["enhanced"], answer["fusion"], answer["space"]) == (False, None, engine.original_space)
        np.testing.assert_allclose(answer["data"][0]["embedding"], originals(engine, "text", TEXTS)[0], atol=1e-5)
        refused = plain.client.post("/embed/text", json={"texts": TEXTS, "enhance": True})
        assert (refused.status_code, refused.json()["code"]) == (422, "enhancement_unavailable")
        found = plain.client.post("/embed/text", json={"texts": TEXTS, "return_neighbours": True, "k": 2}).json()
        assert [len(item["neighbours"]) for item in found["data"]] == [2, 2, 2]
        memory = plain.client.get("/memory").json()
        assert (memory["enhancement"], memory["fusion"]) == (False, None)
        classified = plain.client.post("/classify", files={"files": b"x"}, data={"labels": '["a"]', "enhance": "both"})
        assert classified.json()["code"] == "enhancement_unavailable"


def test_server_timing_names_the_stages(client: httpx.Client) -> None:
    timing = client.post("/embed/text", json={"texts": TEXTS}).headers["server-timing"]
    stages = [part.split(";dur=")[0] for part in timing.split(", ")]
    assert stages == ["tokenize", "queue", "encode", "retrieve", "fuse", "total"]
    assert all(float(part.split(";dur=")[1]) >= 0 for part in timing.split(", "))


def test_more_items_than_the_queue_holds_are_not_asked_to_come_back(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    photo = base64.b64encode(photo_bytes["png"]).decode()
    with serve(max_queue_items=4) as small:
        for path, body in (("/embed/text", {"texts": ["a bird"]}), ("/embed/image", {"images": [photo]})):
            assert small.client.post(path, json={name: items * 4 for name, items in body.items()}).status_code == 200
            answer = small.client.post(path, json={name: items * 5 for name, items in body.items()})
            told = answer.json()
            assert (answer.status_code, told["code"], told["limit"]) == (422, "batch_too_large", 4)
            assert "Retry-After" not in answer.headers
