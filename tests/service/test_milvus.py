"""The service on a memory in Milvus: the same answers, and what it says when the server is killed under load."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import Memory
from memory.milvus import MilvusServer, choose_index, connect, push

pytestmark = pytest.mark.milvus
TEXTS = ["a photo of a red duck", "a photo of a grey raptor"]


@pytest.fixture
def pushed(milvus: Any, memory_dir: Path) -> Iterator[Any]:
    """Milvus Lite with the service tests' memory as `birds`."""
    with Memory.open(memory_dir) as memory:
        push(memory, connect(MilvusServer(milvus.uri, timeout_s=20)), "birds", choose_index("auto", memory.num_items))
    return milvus


@pytest.fixture
def elsewhere(serve: Any, pushed: Any) -> Callable[..., Any]:
    """Serve from Milvus."""
    return lambda **changes: serve(engine=None, backend="milvus", memory="birds", milvus_uri=pushed.uri, **changes)


def ask(service: Any, **options: Any) -> Any:
    return service.client.post("/embed/text", json={"texts": TEXTS, **options})


def rows(answer: Any) -> np.ndarray:
    return np.array([item["embedding"] for item in answer.json()["data"]])


def test_it_answers_as_from_the_directory(serve: Any, elsewhere: Any) -> None:
    with serve() as here, elsewhere() as there:
        ours, theirs = (ask(service, return_neighbours=True) for service in (here, there))
        assert theirs.status_code == 200
        assert [item["neighbours"][0]["key"] for item in theirs.json()["data"]] == [
            item["neighbours"][0]["key"] for item in ours.json()["data"]
        ]
        assert (rows(ours) * rows(theirs)).sum(axis=1).min() >= 0.999
        for name in ("space", "memory_version", "fusion"):
            assert ours.json()[name] == theirs.json()[name]
        told = there.client.get("/memory").json()
        assert told["num_items"] == 24
        assert told["indices"][0]["kind"] == "milvus FLAT"
        assert len(there.client.get("/memory/items?sample=5").json()["items"]) == 5
        assert "degraded" not in theirs.json()


def load(service: Any, answers: list[Any], stop: threading.Event) -> threading.Thread:
    def work() -> None:
        while not stop.is_set():
            answers.append(ask(service))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("setting", ["refuse", "plain"])
def test_killed_under_load_it_says_what_the_setting_says_and_recovers(
    setting: str, elsewhere: Any, pushed: Any
) -> None:
    answers: list[Any] = []
    stop = threading.Event()
    with elsewhere(memory_away=setting) as service:
        refined, plain = rows(ask(service)), rows(ask(service, enhance=False))
        threads = [load(service, answers, stop) for _ in range(3)]
        try:
            time.sleep(1)
            pushed.kill()
            time.sleep(3)
            pushed.start()
            end = time.monotonic() + 40
            while time.monotonic() < end and not (answers[-1].status_code == 200 and not degraded(answers[-1])):
                time.sleep(0.1)
            time.sleep(1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        counts = Counter((answer.status_code, degraded(answer)) for answer in answers)
        away = (503, False) if setting == "refuse" else (200, True)
        assert set(counts) == {(200, False), away}, counts
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["code"] == "memory_unavailable"
                assert answer.headers["Retry-After"]
            elif degraded(answer):  # plain throughout, and named as such
                np.testing.assert_allclose(rows(answer), plain, atol=1e-6)
                assert answer.json()["enhanced"] is False
                assert answer.headers["X-Reco-Degraded"] == "true"
                assert answer.json()["space"] == ask(service, enhance=False).json()["space"]
            else:
                np.testing.assert_allclose(rows(answer), refined, atol=1e-5)
        np.testing.assert_allclose(rows(ask(service)), refined, atol=1e-5)


def degraded(answer: Any) -> bool:
    return answer.status_code == 200 and answer.json().get("degraded") is True


def test_classify_and_openai_degrade_too_and_probes_say_so(elsewhere: Any, pushed: Any, photo_bytes: Any) -> None:
    asked = {"files": {"files": ("a.jpg", photo_bytes["jpeg"])}, "data": {"labels": '["duck", "raptor"]'}}
    with elsewhere(memory_away="plain") as service:
        pushed.kill()
        answer = service.client.post("/classify", **asked)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["degraded"], answer.json()["enhance"]) == (True, "none")
        answer = service.client.post("/v1/embeddings", json={"model": "tiny-clip", "input": TEXTS})
        assert answer.json()["degraded"] is True
        ready = service.client.get("/readyz")
        assert ready.status_code == 200
        assert "memory_unavailable" in ready.json()["warnings"]
        assert service.client.get("/memory/items").status_code == 503
        assert "reco_degraded_items_total" in service.client.get("/metrics").text


def test_a_memory_that_is_away_at_the_start_is_asked_for_until_it_is_there(
    elsewhere: Any, pushed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lifecycle.AWAY_S", 0.2)
    pushed.kill()
    with elsewhere(ready=False, milvus_timeout_s=0.5) as service:
        end = time.monotonic() + 30
        while service.client.get("/readyz").json()["reason"] == "starting" and time.monotonic() < end:
            time.sleep(0.1)
        assert service.client.get("/readyz").json()["reason"] == "memory_unavailable"
        pushed.start()
        while service.client.get("/readyz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert ask(service).status_code == 200
