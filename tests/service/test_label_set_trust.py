"""A fusion that weighs label sets: `/classify` against the same functions called directly, and what it tells."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from memory import Neighbours, SearchableMemory
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from models.fusion.label_set import LabelSetWeights, weigh_label_set
from models.label_captions import LabelCaptions, LabelNeighbours
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from service.pipeline.engine import Engine, FloatArray, Query
from service.pipeline.weighing import weigh_classes
from service.problems import Problem

K = 4
COLOURS = ("red", "brown", "grey", "yellow", "blue")
BIRDS = [f"{colour} {bird}" for colour in COLOURS for bird in (
    "songbird", "duck", "raptor", "parrot", "hummingbird", "swift", "wader", "bird",
)]  # fmt: skip
PAIRS = 6  # of each bird
KNOWN = [
    "red songbird", "brown duck", "grey wader", "blue swift", "yellow parrot", "red duck", "grey bird", "blue raptor",
]  # fmt: skip
UNKNOWN = ["motorcycle", "kitchen sink", "xylophone"]


def unit(rows: Any) -> FloatArray:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def fitted(images: FloatArray, texts: FloatArray) -> Fusion:
    """The evidence design fitted on the memory's pairs, each bird an entity."""
    entity = torch.arange(len(BIRDS)).repeat_interleave(PAIRS)
    pairs = EntityPairs(torch.from_numpy(images), torch.from_numpy(texts), entity)
    return fit_evidence(pairs, FusionConfig("evidence", images.shape[1], k=K))


@pytest.fixture(scope="module")
def weighing(
    encoder: Encoder, write_pairs: Any, make_settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """An engine whose memory has six pairs of each bird, and whose fusion weighs label sets."""
    captions = [f"a photo of a {bird}." for bird in BIRDS for _ in range(PAIRS)]
    dice = np.random.default_rng(0)
    # A text tower with random weights hears the template rather than the bird: noise in its place.
    texts = encoder.encode_text(encoder.tokenize(captions).ids)
    texts = unit(texts + 0.2 * unit(dice.normal(size=texts.shape)))
    looks = dice.normal(size=(len(BIRDS), texts.shape[1])).repeat(PAIRS, axis=0)
    images = unit(dice.normal(size=texts.shape[1]) + looks + 3.0 * dice.normal(size=texts.shape))
    memory = write_pairs(tmp_path_factory.mktemp("memory"), encoder, captions, images, texts)
    checkpoint = tmp_path_factory.mktemp("fusion")
    save_fusion(checkpoint, fitted(images, texts), encoder.fingerprint.record())
    return Engine.open(make_settings(memory=str(memory), fusion=str(checkpoint)))


@pytest.fixture(scope="module")
def asked(serve: Any, weighing: Engine) -> Iterator[httpx.Client]:
    """A client of a service with that engine."""
    with serve(engine=weighing) as service:
        yield service.client


@pytest.fixture(scope="module")
def photos(photo_bytes: dict[str, bytes]) -> list[bytes]:
    """Two photographs that differ."""
    return [photo_bytes["jpeg"], photo_bytes["gif"]]


def classify(client: httpx.Client, photos: list[bytes], labels: list[str], **options: Any) -> Any:
    body = {"images": [base64.b64encode(photo).decode() for photo in photos], "labels": labels, **options}
    answer = client.post("/classify", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def named_by_hand(memory: SearchableMemory, texts: FloatArray, labels: list[str]) -> Neighbours:
    """Of five times K neighbours those whose caption names the label, K at most and alike; else the K nearest."""
    wide = memory.search(texts, 5 * K, modality="text")
    chosen = memory.search(texts, K, modality="text")
    for row, label in enumerate(labels):
        captions = [memory.items([one])[0].caption for one in wide.ids[row]]
        own = [place for place, caption in enumerate(captions) if f" {label}." in caption][:K]
        if own:
            for part in fields(Neighbours):
                into = getattr(chosen, part.name)
                into[row, : len(own)] = getattr(wide, part.name)[row, own]
            chosen.mask[row, len(own) :] = False
            chosen.similarities[row] = chosen.similarities[row, 0]
    return chosen


def by_hand(engine: Engine, photo: bytes, labels: list[str], mode: str) -> tuple[FloatArray, LabelSetWeights]:
    """Similarities of one photograph, and the weights of the set; every step of its own, with torch."""
    encoder, memory, fusion = engine.encoder, engine.memory, engine.composed.fusion
    assert fusion is not None
    texts = encoder.encode_text(encoder.tokenize([f"a photo of a {label}." for label in labels]).ids)
    image = encoder.encode_image(encoder.preprocess(photo)[None])
    found = [named_by_hand(memory, texts, labels), memory.search(image, K, modality="image")]
    parts = [[torch.from_numpy(part) for part in (one.values, one.similarities, one.mask)] for one in found]
    named = torch.tensor([label in BIRDS for label in labels])
    weights = weigh_label_set(fusion, torch.from_numpy(texts), *parts[0], torch.from_numpy(found[0].keys), named=named)
    assert weights is not None
    if mode in ("both", "text"):
        texts = fusion.text(torch.from_numpy(texts), *parts[0], weight=torch.tensor(weights.text)).numpy()
    if mode in ("both", "image"):
        image = fusion.image(torch.from_numpy(image), *parts[1], weight=torch.tensor(weights.image)).numpy()
    return texts @ image[0], weights


@pytest.mark.parametrize("mode", ["both", "image", "text"])
def test_each_mode_against_the_functions_themselves(
    asked: httpx.Client, weighing: Engine, photos: list[bytes], mode: str
) -> None:
    answer = classify(asked, photos, KNOWN, enhance=mode, compare=True)
    for item, photo in zip(answer["data"], photos, strict=True):
        similarities, weights = by_hand(weighing, photo, KNOWN, mode)
        np.testing.assert_allclose(item["similarities"], similarities, atol=1e-5)
        logits = weighing.encoder.logit_scale * similarities
        np.testing.assert_allclose(
            item["probabilities"], np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum(), atol=1e-4
        )
        plain, _ = by_hand(weighing, photo, KNOWN, "none")
        np.testing.assert_allclose(item["original"]["similarities"], plain, atol=1e-5)
        assert np.abs(plain - similarities).max() > 1e-3  # else this shows nothing
        assert weights.text > 0 and weights.image > 0
        assert answer["trust"] == {
            "text": pytest.approx(weights.text if mode != "image" else 0),
            "image": pytest.approx(weights.image if mode != "text" else 0),
            "unknown_labels": 0,
        }
    assert (answer["enhance"], answer["space"]) == (mode, weighing.space)


def test_the_default_is_both_sides(asked: httpx.Client, photos: list[bytes]) -> None:
    assert classify(asked, photos, KNOWN)["trust"] == classify(asked, photos, KNOWN, enhance="both")["trust"]


def test_several_images_are_answered_as_each_alone(asked: httpx.Client, photos: list[bytes]) -> None:
    together = classify(asked, [*photos, photos[0]], KNOWN)
    for item, photo in zip(together["data"], [*photos, photos[0]], strict=True):
        alone = classify(asked, [photo], KNOWN)
        np.testing.assert_allclose(item["similarities"], alone["data"][0]["similarities"], atol=1e-5)
        assert alone["trust"] == pytest.approx(together["trust"])


def test_labels_that_the_memory_does_not_know_get_the_plain_answer(asked: httpx.Client, photos: list[bytes]) -> None:
    answer = classify(asked, photos, UNKNOWN, compare=True)
    assert answer["trust"] == {"text": 0, "image": 0, "unknown_labels": 1}
    for item in answer["data"]:
        assert {name: item[name] for name in item["original"]} == item["original"]


def test_the_share_of_unknown_labels_is_told(asked: httpx.Client, photos: list[bytes]) -> None:
    labels = [*KNOWN, UNKNOWN[0]]
    assert classify(asked, photos, labels)["trust"]["unknown_labels"] == pytest.approx(1 / len(labels))


def test_nothing_is_weighed_where_nothing_is_enhanced(asked: httpx.Client, photos: list[bytes]) -> None:
    assert "trust" not in classify(asked, photos, KNOWN, enhance="none")


def test_other_designs_tell_no_trust(client: httpx.Client, photos: list[bytes]) -> None:
    assert "trust" not in classify(client, photos, KNOWN)


def test_a_bad_image_keeps_its_error(asked: httpx.Client, photos: list[bytes]) -> None:
    whole = classify(asked, photos, KNOWN)["data"]
    answer = classify(asked, [photos[0], b"ABC", photos[1]], KNOWN, on_error="partial")["data"]
    assert answer[1]["error"]["code"] == "image_format_unsupported"
    for item, expected in zip((answer[0], answer[2]), whole, strict=True):
        np.testing.assert_allclose(item["similarities"], expected["similarities"], atol=1e-5)
    [nothing] = classify(asked, [b"ABC"], KNOWN, on_error="partial")["data"]
    assert nothing["error"]["code"] == "image_format_unsupported"


def test_a_set_larger_than_the_queue_is_weighed_whole(
    asked: httpx.Client, serve: Any, weighing: Engine, photos: list[bytes]
) -> None:
    with serve(engine=weighing, max_queue_items=7) as small:
        answer = classify(small.client, photos[:1], BIRDS)
    expected = classify(asked, photos[:1], BIRDS)
    assert answer["trust"] == pytest.approx(expected["trust"])
    np.testing.assert_allclose(answer["data"][0]["similarities"], expected["data"][0]["similarities"], atol=1e-5)


def test_weighing_is_a_stage(asked: httpx.Client, photos: list[bytes]) -> None:
    body = {"images": [base64.b64encode(photos[0]).decode()], "labels": KNOWN, "templates": ["weighed, a {}"]}
    path = []
    for _ in range(2):
        timing = asked.post("/classify", json=body).headers["server-timing"]
        path.append([part.split(";dur=")[0] for part in timing.split(", ")])
    assert path[0] == ["decode", "tokenize", "queue", "encode", "weigh", "retrieve", "fuse", "total"]
    assert path[1] == ["decode", "queue", "encode", "retrieve", "fuse", "total"]  # the weights are known by then


def test_with_known_weights_images_are_refined_at_once_and_alike(asked: httpx.Client, photos: list[bytes]) -> None:
    images = [base64.b64encode(photo).decode() for photo in photos]
    body = {"images": images, "labels": KNOWN[::-1], "compare": True}
    first, second = (asked.post("/classify", json=body).json() for _ in range(2))
    assert first["trust"] == second["trust"]
    assert first["trust"]["image"] > 0
    for one, other in zip(first["data"], second["data"], strict=True):
        np.testing.assert_allclose(one["similarities"], other["similarities"], atol=1e-5)
        np.testing.assert_allclose(one["original"]["similarities"], other["original"]["similarities"], atol=1e-5)
    assert 'reco_stage_duration_seconds_count{stage="weigh"}' in asked.get("/metrics").text


def test_the_answer_has_the_documented_fields(asked: httpx.Client, photos: list[bytes]) -> None:
    schemas = asked.get("/openapi.json").json()["components"]["schemas"]
    trust = schemas["Trust"]
    assert "trust" not in schemas["ClassifyAnswer"]["required"]
    assert set(classify(asked, photos, KNOWN)["trust"]) == set(trust["properties"]) == set(trust["required"])


def test_queries_with_and_without_a_weight_share_a_batch(weighing: Engine) -> None:
    rows = weighing.memory.rows("image", [0, 50, 100, 150])
    weights = [None, 0.0, 0.5, None]
    queries = [Query(row, enhance=True, k=K, weight=weight) for row, weight in zip(rows, weights, strict=True)]
    answers, _ = weighing.compute("image", queries)
    for answer, query, row in zip(answers, queries, rows, strict=True):
        [alone], _ = weighing.compute("image", [query])
        np.testing.assert_allclose(answer.embedding, alone.embedding, atol=1e-6)
        np.testing.assert_array_equal(answer.original, row)
    np.testing.assert_array_equal(answers[1].embedding, rows[1])


def test_weighing_ends_between_two_parts(weighing: Engine) -> None:
    texts, parts = weighing.memory.rows("text", [0, 10]), [0]

    def late() -> None:
        parts[0] += 1
        if parts[0] == 2:
            raise Problem("deadline_exceeded")

    with pytest.raises(Problem, match="deadline_exceeded"):
        weigh_classes(weighing.composed, texts, BIRDS[:2], K, refine=True, part_size=1, before_part=late)


def test_a_set_of_few_labels_waits_for_none_of_many(
    serve: Any, weighing: Engine, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, begun, may_end = LabelCaptions.look_up, Event(), Event()

    def held(self: LabelCaptions, texts: FloatArray, *rest: Any, **options: Any) -> LabelNeighbours:
        if len(texts) == len(KNOWN):
            begun.set()
            assert may_end.wait(30)
        return look_up(self, texts, *rest, **options)

    monkeypatch.setattr(LabelCaptions, "look_up", held)
    with serve(engine=weighing, max_batch_size=4, request_timeout_s=5) as service, ThreadPoolExecutor(1) as beside:
        many = beside.submit(classify, service.client, photos[:1], KNOWN)
        try:
            assert begun.wait(30)
            classify(service.client, photos[:1], UNKNOWN)
        finally:
            may_end.set()
        many.result()


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (torch.OutOfMemoryError("secret"), 503, "out_of_memory"),
        (RuntimeError("secret"), 500, "internal_error"),
    ],
)
def test_a_weighing_that_fails_is_a_problem(
    serve: Any, weighing: Engine, photos: list[bytes], monkeypatch: pytest.MonkeyPatch,
    failure: Exception, status: int, code: str,
) -> None:  # fmt: skip
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(weighing.composed, "weigh", fail)
    with serve(engine=weighing) as service:
        body = {"images": [base64.b64encode(photos[0]).decode()], "labels": KNOWN}
        answer = service.client.post("/classify", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret" not in answer.text
