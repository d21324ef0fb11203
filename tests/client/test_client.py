"""The client against the service itself: both clients give what the encoder gives, in order, however it is cut."""

import asyncio
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import MemoryUnavailable
from models.refine import RetrievalEnhancedEncoder
from reco_client import AsyncClient, Client, Degraded, NotAuthorised, RequestRefused
from service.door.keys import key_line, new_key
from service.pipeline.engine import Engine

TEXTS = [f"a {colour} {bird}" for colour in ("red", "brown", "grey") for bird in ("duck", "parrot", "swift", "wader")]
LABELS = ["songbird", "duck", "raptor"]
CUT = {"in_flight": 3, "texts_per_request": 5, "images_per_request": 2}

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, service: Any) -> Iterator[Call]:
    """Call a method by name, through both clients."""
    if request.param == "sync":
        with Client(service.url, **CUT) as client:
            yield lambda name, *given, **options: getattr(client, name)(*given, **options)
        return

    def ask(name: str, *given: Any, **options: Any) -> Any:
        async def once() -> Any:
            async with AsyncClient(service.url, **CUT) as client:
                return await getattr(client, name)(*given, **options)

        return asyncio.run(once())

    yield ask


@pytest.fixture
def photos(photo_bytes: dict[str, bytes], tmp_path: Path) -> list[Any]:
    """The same photograph in many files: a path, a str and bytes among them."""
    paths = []
    for name, data in photo_bytes.items():
        path = tmp_path / name
        path.write_bytes(data)
        paths.append(path)
    return [paths[0], str(paths[1]), *photo_bytes.values()]


def originals(engine: Engine, texts: list[str]) -> np.ndarray[Any, Any]:
    return np.concatenate([engine.encoder.encode_text(engine.encoder.tokenize([text]).ids) for text in texts])


def test_texts_in_order(call: Call, engine: Engine) -> None:
    expected = engine.composed.refine(originals(engine, TEXTS), modality="text", k=3).embeddings
    found = call("embed_texts", (text for text in TEXTS), k=3)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.vectors.dtype == np.float32
    assert (found.space, found.memory_version, found.model) == (engine.space, 1, "tiny-clip")
    assert found.fusion == engine.fusion_id


def test_one_text_and_the_frozen_encoder(call: Call, engine: Engine) -> None:
    found = call("embed_texts", TEXTS[0], enhance=False)
    np.testing.assert_allclose(found.vectors, originals(engine, TEXTS[:1]), atol=1e-5)
    assert found.space == engine.original_space


def test_all_that_can_be_asked_for(call: Call, engine: Engine) -> None:
    found = call("embed_texts", [*TEXTS, "bird " * 99], k=2, return_original=True, return_neighbours=True)
    np.testing.assert_allclose(found.original[:-1], originals(engine, TEXTS), atol=1e-5)
    plain = call("embed_texts", [*TEXTS, "bird " * 99], k=2)
    np.testing.assert_allclose(found.vectors, plain.vectors, atol=1e-5)
    assert (found.truncated, plain.truncated) == ((12,), (12,))
    near = engine.memory.search(originals(engine, TEXTS), 2, modality="text")
    assert [[one.id for one in row] for row in found.neighbours[:-1]] == near.ids.tolist()
    assert found.neighbours[0][0].caption == engine.memory.items([near.ids[0, 0]])[0].caption


def test_images_from_everywhere(call: Call, engine: Engine, photos: list[Any]) -> None:
    found = call("embed_images", photos)
    data = [Path(one).read_bytes() if isinstance(one, str | Path) else one for one in photos]
    rows = np.concatenate([engine.encoder.encode_image(engine.encoder.preprocess(one)[None]) for one in data])
    expected = engine.composed.refine(rows, modality="image").embeddings
    np.testing.assert_allclose(found.vectors, expected, atol=1e-4)
    np.testing.assert_allclose(call("embed_images", photos[0]).vectors, expected[:1], atol=1e-4)


def test_one_bad_input_fails_the_call_and_says_which(call: Call, photos: list[Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        call("embed_texts", [*TEXTS[:7], "", *TEXTS])
    assert [(item.index, item.code) for item in refused.value.items] == [(7, "text_empty")]
    assert (refused.value.code, refused.value.status) == ("text_empty", 422)
    assert refused.value.request_id
    with pytest.raises(RequestRefused) as refused:
        call("embed_images", [*photos[:3], photos[2][:200]])
    assert [(item.index, item.code) for item in refused.value.items] == [(3, "image_truncated")]
    with pytest.raises(FileNotFoundError):
        call("embed_images", [photos[0], "nowhere.jpg"])


def test_or_is_a_row_without_numbers(call: Call, photos: list[Any]) -> None:
    sent = [photos[0], "nowhere.jpg", b"no image", photos[2], "nowhere2.jpg", "nowhere3.jpg"]
    found = call("embed_images", sent, on_error="partial")
    assert np.isnan(found.vectors).all(axis=1).tolist() == [False, True, True, False, True, True]
    assert {place: error.code for place, error in found.errors.items()} == {
        1: "file_unreadable",
        2: "image_format_unsupported",
        4: "file_unreadable",
        5: "file_unreadable",
    }
    assert all(error.index == place for place, error in found.errors.items())
    np.testing.assert_allclose(found.vectors[0], call("embed_images", photos[0]).vectors[0], atol=1e-5)


def test_inputs_that_cannot_be_sent_cost_the_others_nothing(call: Call, photos: list[Any], tmp_path: Path) -> None:
    texts = ["a bird", "caf\udce9", "a duck"]
    found = call("embed_texts", texts, on_error="partial")
    assert {place: error.code for place, error in found.errors.items()} == {1: "text_invalid_unicode"}
    assert np.isnan(found.vectors).all(axis=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"surrogate pair.*input 1"):
        call("embed_texts", texts)
    closed = (tmp_path / "closed").open("wb+")
    closed.close()
    found = call("embed_images", [photos[0], closed, "a\0b.jpg"], on_error="partial")
    assert {place: error.code for place, error in found.errors.items()} == dict.fromkeys((1, 2), "file_unreadable")


def test_a_partial_call_is_not_ended_by_an_image_that_is_too_large(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    small = photo_bytes["webp"]
    large = photo_bytes["jpeg"] + bytes(len(small))
    limit = max(len(small), len(photo_bytes["jpeg"])) + 1
    large += bytes(max(0, limit + 1 - len(large)))
    with serve(max_image_bytes=limit) as service, Client(service.url) as client:
        found = client.embed_images([small, large, small], on_error="partial")
        assert {place: error.code for place, error in found.errors.items()} == {1: "image_too_large"}
        with pytest.raises(RequestRefused, match="image_too_large") as refused:
            client.embed_images([small, large, small])
        assert [error.index for error in refused.value.items] == [1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_goes_on_after_an_image_that_is_no_request(serve: Any, photo_bytes: dict[str, bytes], kind: str) -> None:
    """It is larger than any body may be, so the service answers without having read what it is."""
    small, large = photo_bytes["jpeg"], photo_bytes["jpeg"] + bytes(200_000)
    images = [small, large, io.BytesIO(large), small]
    cut = {"bytes_per_request": 50_000}

    def embed(url: str, **options: Any) -> Any:
        if kind == "sync":
            with Client(url, **cut) as client:
                return client.embed_images(images, **options)

        async def ask() -> Any:
            async with AsyncClient(url, **cut) as client:
                return await client.embed_images(images, **options)

        return asyncio.run(ask())

    with serve(max_body_bytes=100_000) as service:
        found = embed(service.url, on_error="partial")
        with pytest.raises(RequestRefused, match=r"Input 1\.") as failed:
            embed(service.url)
    assert {place: error.code for place, error in found.errors.items()} == dict.fromkeys((1, 2), "body_too_large")
    assert np.isfinite(found.vectors).all(axis=1).tolist() == [True, False, False, True]
    assert [(item.index, item.code) for item in failed.value.items] == [(1, "body_too_large")]


@pytest.mark.parametrize("on_error", ["fail", "partial"])
def test_a_refusal_of_several_images_together_blames_none(
    serve: Any, photo_bytes: dict[str, bytes], on_error: Any
) -> None:
    images = [photo_bytes["jpeg"] + bytes(60_000)] * 2
    with serve(max_body_bytes=100_000) as service, Client(service.url) as client:
        with pytest.raises(RequestRefused) as failed:
            client.embed_images(images, on_error=on_error)
        assert (failed.value.code, failed.value.items) == ("body_too_large", ())


def test_labels_beyond_ascii_are_not_refused_for_how_they_are_sent(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    labels = [f"{number}{'鸟' * 150}" for number in range(3000)]
    with serve(max_labels=3000, max_class_texts=3000) as service, Client(service.url) as client:
        asked = client.classify(photo_bytes["jpeg"], labels=labels, templates=["{}"], enhance="none")
    assert asked[0].label in labels


def test_classification(call: Call, client: Any, photos: list[Any]) -> None:
    found = call("classify", photos, labels=LABELS, templates=("a {}",), compare=True)
    form = {"labels": json.dumps(LABELS), "templates": '["a {}"]', "compare": "true"}
    data = [Path(one).read_bytes() if isinstance(one, str | Path) else one for one in photos]
    told = client.post("/classify", files=[("files", one) for one in data], data=form).json()
    assert (found.enhance, found.space, len(found)) == ("both", told["space"], len(photos))
    for one, item in zip(found, told["data"], strict=True):
        np.testing.assert_allclose(one.scores.probabilities, item["probabilities"], atol=1e-5)
        np.testing.assert_allclose(one.original.similarities, item["original"]["similarities"], atol=1e-5)
        assert (one.label, one.index) == (item["label"], item["index"] if one is found[0] else one.index)
        assert one.scores.probability == pytest.approx(max(item["probabilities"]), abs=1e-5)


def test_classification_of_the_best_and_of_the_bad(call: Call, photos: list[Any]) -> None:
    found = call("classify", [photos[0], "nowhere.jpg", b"no image", photos[1]], labels=LABELS, top_k=2,
                 on_error="partial")  # fmt: skip
    assert [one.index for one in found] == [0, 1, 2, 3]
    assert [one.error and one.error.code for one in found] == [
        None,
        "file_unreadable",
        "image_format_unsupported",
        None,
    ]
    best = found[0].scores
    assert best.top[0].label == found[0].label == best.label
    assert (len(best.top), best.probability) == (2, best.top[0].probability)
    assert found[1].label is None


def test_options_may_be_of_numpy(call: Call, photos: list[Any]) -> None:
    for name, inputs in (("embed_texts", TEXTS), ("embed_images", photos)):
        said = [call(name, inputs, k=k, enhance=enhance) for k, enhance in ((np.int64(3), np.True_), (3, True))]
        np.testing.assert_allclose(said[0], said[1], atol=1e-6)
    found = call("classify", photos[0], labels=np.array(LABELS), top_k=np.int32(2), compare=np.False_)
    assert len(found[0].scores.top) == 2


def test_a_model_may_have_any_name(serve: Any, encoder_dir: Path, tmp_path: Path) -> None:
    """It is its directory's; headers hold ASCII."""
    named = shutil.copytree(encoder_dir, tmp_path / "模型 100%")
    with serve(engine=None, model=str(named), served_model_name=None) as service, Client(service.url) as client:
        found = client.embed_texts("a duck"), client.embed_texts("a duck", return_original=True)
    assert [one.model for one in found] == [named.name] * 2


def test_the_rest(call: Call, engine: Engine) -> None:
    assert call("memory")["num_items"] == engine.memory.num_items
    assert call("ready")["status"] == "ready"
    assert call("label_sets") == []
    with pytest.raises(RequestRefused, match="not_found"):
        call("label_set", "../x")
    with pytest.raises(RequestRefused, match=r"field_invalid .*At /k\. expected: a whole number\."):
        call("embed_texts", "a", k="5")


def test_an_operator_changes_label_sets(serve: Any, photos: list[Any], tmp_path: Path) -> None:
    operator, user = new_key(), new_key()
    keys = tmp_path / "keys"
    keys.write_text(f"{key_line('admin', ['operator'], operator)}\n{key_line('web', ['use'], user)}\n")
    with serve(api_keys_file=str(keys)) as service:
        with Client(service.url, api_key=operator) as admin:
            admin.put_label_set("birds", LABELS, ["a {}"])
            assert admin.reload()["changed"] is False
        with Client(service.url, api_key=user) as client:
            assert client.label_set("birds") == {"name": "birds", "labels": LABELS, "templates": ["a {}"]}
            assert client.classify(photos[0], label_set="birds")[0].label in LABELS
            with pytest.raises(NotAuthorised, match="scope_missing"):
                client.delete_label_set("birds")
        with Client(service.url, api_key=operator) as admin:
            admin.delete_label_set("birds")
        with Client(service.url, api_key="wrong") as stranger, pytest.raises(NotAuthorised, match="unauthorized"):
            stranger.memory()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_memory_is_taught_and_forgets(serve: Any, own_memory: Path, photos: list[Any], kind: str) -> None:
    operator = new_key()
    with serve(engine=None, memory=str(own_memory), api_keys=f"admin operator {operator}") as service:

        def call(method: str, *given: Any, **options: Any) -> Any:
            if kind == "sync":
                with Client(service.url, api_key=operator) as client:
                    return getattr(client, method)(*given, **options)

            async def once() -> Any:
                async with AsyncClient(service.url, api_key=operator) as client:
                    return await getattr(client, method)(*given, **options)

            return asyncio.run(once())

        added = call("add_pairs", photos[:2], name="tirrik", key="mine/a")
        assert added["added"] == ["mine/a/0", "mine/a/1"]
        [[near]] = call("embed_images", photos[0], k=1, return_neighbours=True).neighbours
        assert (near.key, near.caption) == ("mine/a/0", "a photo of a tirrik.")
        assert call("pairs", limit=1)["total"] == 2
        assert call("pair", "mine/a/0")["pair"]["key"] == "mine/a/0"
        assert call("remove_pair", "mine/a/0")["num_items"] == added["num_items"] - 1
        with pytest.raises(RequestRefused, match="pair_not_found"):
            call("remove_pair", "mine/a/0")
        with pytest.raises(FileNotFoundError):
            call("add_pairs", "nowhere.jpg", name="tirrik")


def test_thousands_come_back_in_order(service: Any) -> None:
    texts = [f"bird {number}" for number in range(3000)]
    with Client(service.url, texts_per_request=100) as client:
        parts = list(client.stream_texts(iter(texts), enhance=False))
        few = client.embed_texts(texts[::500], enhance=False)
    assert [len(part) for part in parts] == [100] * 30
    whole = np.concatenate([part.vectors for part in parts])
    np.testing.assert_allclose(whole[::500], few.vectors, atol=1e-5)


class GoingAway(RetrievalEnhancedEncoder):
    """The composed encoder over a memory that a test can take away."""

    away = False

    def search(self, *given: Any, **options: Any) -> Any:
        if self.away:
            raise MemoryUnavailable("it is away")
        return super().search(*given, **options)


def test_a_memory_that_is_away_is_told(serve: Any, engine: Engine, photos: list[Any]) -> None:
    whole = engine.composed
    composed = GoingAway(whole.encoder, whole.memory, whole.fusion, whole.fusion_id)
    with (
        serve(engine=Engine(composed), memory_away="plain") as service,
        Client(service.url, in_flight=1, texts_per_request=1) as client,
    ):
        assert not client.embed_texts(TEXTS[0]).degraded
        stream = client.stream_texts(TEXTS[:2])
        parts: Sequence[Any] = [next(stream)]
        composed.away = True
        parts = [*parts, *stream]
        assert [part.degraded for part in parts] == [False, True]
        found = client.embed_texts(TEXTS[0])  # an array
        assert (found.degraded, found.space) == (True, engine.original_space)
        assert client.embed_texts(TEXTS[0], return_original=True).degraded  # JSON
        assert client.classify(photos[0], labels=LABELS).degraded

        def comes_back() -> Iterator[str]:
            yield TEXTS[0]
            yield TEXTS[1]
            composed.away = False
            yield TEXTS[2]

        with pytest.raises(Degraded):
            client.embed_texts(comes_back())
