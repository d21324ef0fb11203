"""Large label sets: embedded once, further with each request, and the named ones before anybody asks."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from models.encoder import Encoder
from service.classes.label_embeddings import LabelEmbeddings
from service.door.keys import key_line, new_key

BIRDS = ["songbird", "duck", "raptor", "parrot"]
AddPair = Callable[[Path, Encoder, str, str], int]


def texts_encoded(service: Any) -> int:
    return int(metric(service, 'reco_items_total{modality="text",outcome="ok"}'))


def metric(service: Any, series: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in service.client.get("/metrics").text.splitlines())
    return float(lines.get(series, 0))


def reload(service: Any) -> None:
    state = service.app.state.service
    assert asyncio.run_coroutine_threadsafe(state.reload(), service.loop).result(30).changed


def until(said: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not said():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def write_set(folder: Path, name: str, labels: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    return folder


@pytest.fixture(name="ask")
def asker(photo_bytes: dict[str, bytes]) -> Callable[..., Any]:
    """Classify a photograph."""
    image = base64.b64encode(photo_bytes["jpeg"]).decode()

    def ask(service: Any, *, timeout: float = 60, **options: Any) -> httpx.Response:
        return cast(
            httpx.Response,
            service.client.post("/classify", json={"images": [image], **options}, timeout=timeout),
        )

    return ask


def test_a_set_that_takes_longer_than_a_request_may_is_there_for_one_that_comes_again(
    serve: Any, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labels = [f"{bird} number {number}" for number in range(16) for bird in BIRDS]
    with serve(request_timeout_s=0.6, max_batch_size=4) as service:
        tokenize = type(service.app.state.service.pipeline.engine).tokenize

        def slowly(engine: Any, text: str) -> Any:
            time.sleep(0.02)  # 64 labels are 1.3 s
            return tokenize(engine, text)

        monkeypatch.setattr("service.pipeline.engine.Engine.tokenize", slowly)
        answer = ask(service, labels=labels)
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        tries = 1
        while answer.status_code == 504 and tries < 6:
            answer, tries = ask(service, labels=labels), tries + 1
        assert answer.status_code == 200, answer.text
        assert texts_encoded(service) == len(labels), "no label was embedded twice"


def test_who_leaves_has_paid_for_the_labels_that_were_embedded(
    serve: Any, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(rate_limit=0.03, rate_burst_s=3500, max_batch_size=4) as service:
        tokenize = type(service.app.state.service.pipeline.engine).tokenize

        def slowly(engine: Any, text: str) -> Any:
            time.sleep(0.05)
            return tokenize(engine, text)

        monkeypatch.setattr("service.pipeline.engine.Engine.tokenize", slowly)
        with pytest.raises(httpx.ReadTimeout):
            ask(service, labels=[f"duck {number}" for number in range(100)], timeout=1)
        until(lambda: not service.app.state.service.class_cache._flights)
        kept = service.app.state.service.label_embeddings
        left = service.client.post("/embed/text", json={"texts": ["a"]}).headers["RateLimit"]
        embedded = len(kept._rows)
        assert 0 < embedded < 100
        assert left.startswith(f'"items";r={105 - embedded - 2};')  # an image and a text beside


def test_another_memory_and_another_label_cost_no_other_label(
    serve: Any, ask: Callable[..., Any], own_memory: Path, encoder: Encoder, add_pair: AddPair
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        first = ask(service, labels=BIRDS).json()
        assert texts_encoded(service) == len(BIRDS)
        ask(service, labels=[*BIRDS, "swift"])
        assert texts_encoded(service) == len(BIRDS) + 1
        ask(service, labels=BIRDS, templates=["a drawing of a {}"])
        assert texts_encoded(service) == 2 * len(BIRDS) + 1
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        reload(service)
        second = ask(service, labels=BIRDS).json()
        assert (first["memory_version"], second["memory_version"]) == (1, 2)
        assert texts_encoded(service) == 2 * len(BIRDS) + 1


def test_named_sets_are_ready_before_anybody_asks_and_again_after_a_reload(
    serve: Any, ask: Callable[..., Any], own_memory: Path, encoder: Encoder, add_pair: AddPair, tmp_path: Path
) -> None:
    folder, secret = write_set(tmp_path / "sets", "birds", BIRDS), new_key()
    keys = tmp_path / "keys"
    keys.write_text(key_line("editor", ["operator"], secret) + "\n")
    with serve(engine=None, memory=str(own_memory), label_sets=str(folder), api_keys_file=str(keys)) as service:
        cache = service.app.state.service.class_cache

        def prepared(count: int) -> bool:
            return len(cache._entries) == count

        until(lambda: prepared(1))
        answers = [ask(service, label_set="birds").json(), ask(service, labels=BIRDS).json()]
        assert answers[0]["data"][0]["probabilities"] == pytest.approx(answers[1]["data"][0]["probabilities"])
        hits = 'reco_class_cache_lookups_total{outcome="hit"}'
        assert metric(service, hits) == 2

        add_pair(own_memory, encoder, "two tirrik at night", "added")
        reload(service)
        until(lambda: prepared(2))
        assert ask(service, label_set="birds").json()["memory_version"] == 2
        assert metric(service, hits) == 3

        headers = {"Authorization": f"Bearer {secret}"}
        put = service.client.put("/label_sets/swifts", json={"labels": ["swift", "wader"]}, headers=headers)
        assert put.status_code == 200, put.text
        until(lambda: prepared(3))
        ask(service, label_set="swifts")
        assert metric(service, hits) == 4
        assert texts_encoded(service) == len(BIRDS) + 2


def test_sets_beyond_the_room_wait_for_who_asks(
    serve: Any, ask: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_set(tmp_path / "sets", "a", BIRDS)
    write_set(folder, "b", [f"{bird} {number}" for bird in BIRDS for number in range(20)])
    with caplog.at_level("INFO", "reco.label_sets"), serve(label_sets=str(folder), class_cache_bytes=50_000) as service:
        until(lambda: "label sets: 1 prepared" in caplog.text)
        assert "label sets from b on wait for who asks" in caplog.text
        assert texts_encoded(service) == len(BIRDS)
        assert ask(service, label_set="b").status_code == 200


def test_label_embeddings_keep_to_their_bytes_and_what_was_used_last() -> None:
    kept = LabelEmbeddings(3 * (400 + 40))
    rows = {label: np.full(10, number, dtype=np.float32) for number, label in enumerate("abc")}
    kept.keep("x", rows)
    assert list(kept.find("x", "a")) == ["a"]
    kept.keep("x", {"d": rows["a"]})
    assert list(kept.find("x", "abcd")) == ["a", "c", "d"]
    assert kept.find("y", "abcd") == {}
    kept.keep("x", {"d": rows["b"]})
    assert kept.bytes == 3 * (400 + 40)
    rows["c"][:] = 9
    np.testing.assert_array_equal(kept.find("x", "c")["c"], np.full(10, 2))
    nothing = LabelEmbeddings(0)
    nothing.keep("x", rows)
    assert (nothing.find("x", "abc"), nothing.bytes) == ({}, 0)


def test_prepared_sets_leave_room_for_what_requests_bring(
    serve: Any, ask: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abcdefghi":
        folder = write_set(tmp_path / "sets", name, [f"{name} one", f"{name} two"])
    with caplog.at_level("INFO", "reco.label_sets"), serve(label_sets=str(folder), class_cache_bytes=40_000) as service:
        until(lambda: "prepared in" in caplog.text)
        assert "label sets: 2 prepared" in caplog.text  # of the four that half of the bytes hold
        ask(service, labels=BIRDS)
        ask(service, label_set="a")
        ask(service, label_set="b")
        assert metric(service, 'reco_class_cache_lookups_total{outcome="hit"}') == 2


def test_a_set_that_requests_are_refused_for_is_not_prepared(
    serve: Any, ask: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_set(tmp_path / "sets", "birds", BIRDS)
    with caplog.at_level("INFO", "reco.label_sets"), serve(label_sets=str(folder), max_class_texts=3) as service:
        until(lambda: "prepared" in caplog.text)
        answer = ask(service, label_set="birds")
        assert (answer.status_code, answer.json().get("code")) == (422, "work_too_large")
        assert "label set birds could not be prepared: work_too_large" in caplog.text


def test_a_reload_prepares_a_set_whose_file_alone_is_new(serve: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_set(tmp_path / "sets", "birds", BIRDS)
    with serve(label_sets=str(folder)) as service:
        until(lambda: texts_encoded(service) == len(BIRDS))
        write_set(folder, "birds", [*BIRDS, "swift"])
        state = service.app.state.service
        assert not asyncio.run_coroutine_threadsafe(state.reload(), service.loop).result(30).changed
        until(lambda: texts_encoded(service) == len(BIRDS) + 1)
