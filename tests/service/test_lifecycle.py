"""Starting, being ready, being broken and stopping: probes tell the truth in each."""

import asyncio
import base64
import logging
import re
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from memory import Modality
from models.encoder import Encoder
from models.errors import EncoderError
from service import lifecycle
from service.pipeline import workers
from service.pipeline.decoding import DecodeThreads
from service.pipeline.engine import Answer, Engine, Query
from service.pipeline.pipeline import CANARY_IMAGE


class HeldEngine(Engine):
    """The real engine, behind a gate that a test can shut, and with rows that a test can spoil."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.composed)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.computed: list[int] = []
        self.lanes: list[Modality] = []

    def compute(self, modality: Modality, queries: Sequence[Query]) -> tuple[list[Answer], dict[str, float]]:
        self.entered.set()
        assert self.gate.wait(20)
        self.computed.append(len(queries))
        self.lanes.append(modality)
        if self.failure is not None:
            raise self.failure
        return super().compute(modality, queries)


@pytest.fixture
def held(engine: Engine) -> HeldEngine:
    return HeldEngine(engine)


def test_livez_answers_while_the_engine_loads(serve: Any, held: HeldEngine) -> None:
    held.gate.clear()
    with serve(engine=held, ready=False) as starting:
        try:
            assert starting.client.get("/livez").status_code == 200
            for path in ("/readyz", "/health", "/memory"):
                answer = starting.client.get(path)
                assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (
                    503,
                    "not_ready",
                    "starting",
                )
            assert "reco_ready 0.0" in starting.client.get("/metrics").text
            refused = starting.client.post("/embed/text", json={"texts": "a"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        finally:
            held.gate.set()


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/health"])
def test_a_balancer_may_ask_with_head(service: Any, path: str) -> None:
    asked, whole = service.client.head(path), service.client.get(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(whole.content))


def break_memory(directory: Path) -> None:
    shard = next(directory.glob("indexes/*/shard-*.faiss"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("memory_bit", "shard_hash_mismatch"),
        ("memory_gone", "memory_not_found"),
        ("fusion_gone", "checkpoint_not_found"),
        ("weights_gone", "weights_missing"),
        ("k_beyond", "k_out_of_range"),
    ],
)
def test_X18_a_broken_start_stays_up_and_says_why(
    serve: Any, memory_dir: Path, encoder_dir: Path, tmp_path: Path, broken: str, reason: str
) -> None:
    changes: dict[str, Any] = {}
    if broken == "memory_bit":
        copy = shutil.copytree(memory_dir, tmp_path / "memory")
        break_memory(copy)
        changes["memory"] = str(copy)
    elif broken == "memory_gone":
        changes["memory"] = str(tmp_path / "nothing-here")
    elif broken == "fusion_gone":
        changes["fusion"] = str(tmp_path / "nothing-here")
    elif broken == "weights_gone":
        copy = shutil.copytree(encoder_dir, tmp_path / "encoder")
        (copy / "open_clip_model.safetensors").unlink()
        changes["model"] = str(copy)
    else:
        changes |= {"k": 50, "max_k": 20}
    with serve(engine=None, ready=False, **changes) as service:
        end = time.monotonic() + 30
        while (answer := service.client.get("/readyz")).json()["reason"] == "starting" and time.monotonic() < end:
            time.sleep(0.05)
        assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (503, "not_ready", reason)
        assert str(tmp_path) not in answer.text
        assert service.client.get("/livez").status_code == 200
        assert service.client.get("/metrics").status_code == 200
        refused = service.client.post("/embed/text", json={"texts": "a"})
        assert (refused.status_code, refused.json()["reason"]) == (503, reason)
        assert "retry-after" in refused.headers


def test_X18_what_kept_its_threads_from_beginning_is_tried_again(
    serve: Any, memory_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = DecodeThreads.start, [OSError("no process can be made")]

    def sometimes(decoders: DecodeThreads) -> None:
        if refused:
            raise refused.pop()
        start(decoders)

    monkeypatch.setattr(DecodeThreads, "start", sometimes)
    with serve(engine=None, ready=False, memory=str(memory_dir)) as service:
        end = time.monotonic() + 30
        while (answer := service.client.get("/readyz")).json()["reason"] == "starting" and time.monotonic() < end:
            time.sleep(0.05)
        assert answer.json()["reason"] == "load_failed"
        running = asyncio.run_coroutine_threadsafe(service.app.state.service.reload(), service.loop)
        running.result(60)
        assert service.client.post("/embed/text", json={"texts": "a bird"}).status_code == 200


def test_a_start_from_settings_alone_becomes_ready(serve: Any) -> None:
    with serve(engine=None) as service:
        assert service.client.post("/embed/text", json={"texts": "a bird"}).status_code == 200


def test_pictures_that_8_bits_cannot_be_fitted_on_are_told(make_settings: Any, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="RECO_INT8_PICTURES cannot be read: No such file") as refused:
        Engine.open(make_settings(int8_pictures=str(tmp_path / "missing")))
    assert refused.value.code == "int8_pictures"
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(EncoderError, match="A picture to fit 8 bits on cannot be used"):
        Engine.open(make_settings(int8_pictures=str(tmp_path)))


def test_readyz_sends_a_canary_only_when_nothing_succeeded_lately(
    serve: Any, held: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(engine=held) as service:
        computed = len(held.computed)
        assert computed >= 1  # the canary of the start
        assert service.client.get("/readyz").status_code == 200
        assert len(held.computed) == computed
        monkeypatch.setattr(lifecycle, "CANARY_FRESH_S", 0.0)
        assert service.client.get("/readyz").status_code == 200
        assert len(held.computed) > computed
        held.failure = RuntimeError("the device is gone")
        answer = service.client.get("/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "canary_failed")
        assert "device" not in answer.text
        assert "reco_ready 0.0" in service.client.get("/metrics").text
        held.failure = None
        assert service.client.get("/readyz").status_code == 200
        assert "reco_ready 1.0" in service.client.get("/metrics").text


def test_an_image_that_went_through_says_nothing_of_texts(
    serve: Any, held: HeldEngine, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(engine=held) as service:
        monkeypatch.setattr(lifecycle, "CANARY_FRESH_S", 0.3)
        time.sleep(0.4)
        image = base64.b64encode(photo_bytes["jpeg"]).decode()
        asks = (("text", "image", {"texts": ["a"]}), ("image", "text", {"images": [image]}))
        for modality, other, body in asks:
            computed = len(held.lanes)
            assert service.client.post(f"/embed/{modality}", json=body).status_code == 200
            time.sleep(0.1)
            assert service.client.get("/readyz").status_code == 200
            assert held.lanes[computed + 1 :] == [other], "a canary of what did not go through, and no other"
            time.sleep(0.4)


def test_probes_that_come_while_a_canary_fails_share_its_failure(
    serve: Any, held: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(engine=held, request_timeout_s=1) as service:
        monkeypatch.setattr(lifecycle, "CANARY_FRESH_S", 0.0)
        held.gate.clear()
        started = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: httpx.get(f"{service.url}/readyz", timeout=20), range(6)))
        assert [answer.status_code for answer in answers] == [503] * 6
        assert time.monotonic() - started < 3
        held.gate.set()


def test_readyz_warns_of_an_open_port_without_keys(serve: Any, service: Any) -> None:
    assert service.client.get("/readyz").json()["warnings"] == []
    with serve(host="0.0.0.0") as open_service:
        assert open_service.client.get("/readyz").json()["warnings"] == ["open_without_keys"]


def test_a_full_queue_is_503_before_decoding_and_probes_still_answer(
    serve: Any, held: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(engine=held, max_queue_items=2) as service:
        decoded: list[int] = []
        monkeypatch.setattr(held, "tokenize", lambda text: decoded.append(1) or Engine.tokenize(held, text))
        held.gate.clear()
        held.entered.clear()
        worker = threading.Thread(
            target=service.client.post, args=("/embed/text",), kwargs={"json": {"texts": ["a", "b"]}}
        )
        worker.start()
        assert held.entered.wait(10)
        before = len(decoded)
        assert before == 2, "what is counted is what decodes"
        refused = service.client.post("/embed/text", json={"texts": ["c"]})
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
        assert refused.headers["retry-after"] == "1"
        assert len(decoded) == before
        assert service.client.get("/livez").status_code == 200
        held.gate.set()
        worker.join(20)
        assert service.client.post("/embed/text", json={"texts": ["c", "d"]}).status_code == 200
        too_many = service.client.post("/embed/text", json={"texts": ["c", "d", "e"]})
        assert (too_many.status_code, too_many.json()["code"]) == (422, "batch_too_large")  # it never has room


def test_X24_bodies_beyond_the_room_are_503_until_one_is_answered(serve: Any, held: HeldEngine) -> None:
    with serve(engine=held, max_body_bytes=1024, max_inflight_bytes=1500) as service:
        held.gate.clear()
        held.entered.clear()
        large = {"json": {"texts": "a" * 900}}
        worker = threading.Thread(target=service.client.post, args=("/embed/text",), kwargs=large)
        worker.start()
        assert held.entered.wait(10)
        refused = service.client.post("/embed/text", **large)
        assert (refused.status_code, refused.json()["code"]) == (503, "bodies_full")
        assert refused.headers["retry-after"] == "1"
        held.gate.set()
        worker.join(20)
        assert service.client.post("/embed/text", **large).status_code == 200


def test_waiting_too_long_is_504_and_nothing_is_computed_for_it(serve: Any, held: HeldEngine) -> None:
    with serve(engine=held, request_timeout_s=0.3) as service:
        held.gate.clear()
        held.entered.clear()
        first = threading.Thread(target=service.client.post, args=("/embed/text",), kwargs={"json": {"texts": "a"}})
        first.start()
        assert held.entered.wait(10)
        held.computed.clear()
        late = service.client.post("/embed/text", json={"texts": ["b"] * 3})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        first.join(20)
        held.gate.set()
        assert service.client.post("/embed/text", json={"texts": "c"}).status_code == 200
        assert sum(held.computed) == 2


def test_a_degraded_answer_has_the_time_of_one(serve: Any, engine: Engine, photo_bytes: dict[str, bytes]) -> None:
    class AwayEngine(HeldEngine):
        def compute(self, modality: Modality, queries: Sequence[Query]) -> tuple[list[Answer], dict[str, float]]:
            time.sleep(0.3)
            answers, seconds = super().compute(modality, queries)
            away = [query.enhance or query.neighbours for query in queries]
            return [Answer(one.original, degraded=gone) for one, gone in zip(answers, away, strict=True)], seconds

    with serve(engine=AwayEngine(engine), memory_away="plain", request_timeout_s=2.4) as service:
        form = {"files": {"files": photo_bytes["jpeg"]}, "data": {"labels": '["puffin", "razorbill", "shag"]'}}
        plain = service.client.post("/classify", files=form["files"], data=form["data"] | {"enhance": "none"})
        assert plain.status_code == 200
        started = time.monotonic()
        late = service.client.post("/classify", files=form["files"], data={"labels": '["skua", "gannet", "tern"]'})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert time.monotonic() - started < 3.6  # two deadlines would be 4 s and more


def test_openais_route_is_shed_before_its_body_where_both_queues_are_full(serve: Any, held: HeldEngine) -> None:
    with serve(engine=held, max_queue_items=1) as service:
        held.gate.clear()
        held.entered.clear()
        asks = [
            {"url": "/embed/text", "json": {"texts": "a"}},
            {"url": "/embed/image", "content": _GIF, "headers": {"Content-Type": "image/gif"}},
        ]
        workers = [threading.Thread(target=service.client.post, kwargs=ask) for ask in asks]
        for worker in workers:
            worker.start()
        end = time.monotonic() + 10
        while sum(map(_depth, (service, service), ("text", "image"))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        url = service.client.base_url
        with socket.create_connection((url.host, url.port), timeout=10) as connection:
            head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99"
            connection.sendall(f"{head}\r\n\r\n".encode())
            assert b"503" in connection.recv(4096).partition(b"\r\n")[0]
        held.gate.set()
        for worker in workers:
            worker.join(20)


_GIF = CANARY_IMAGE


def _depth(service: Any, modality: str) -> float:
    found = re.search(
        rf'^reco_queue_depth\{{modality="{modality}"\}} (\S+)$', service.client.get("/metrics").text, re.M
    )
    assert found
    return float(found[1])


def test_T19_a_client_that_leaves_is_dropped_before_compute(serve: Any, held: HeldEngine) -> None:
    with serve(engine=held) as service:
        held.gate.clear()
        held.entered.clear()
        first = threading.Thread(target=service.client.post, args=("/embed/text",), kwargs={"json": {"texts": "a"}})
        first.start()
        assert held.entered.wait(10)
        with pytest.raises(Exception, match="timed out"):
            service.client.post("/embed/text", json={"texts": ["b"] * 5}, timeout=0.3)
        end = time.monotonic() + 10
        while 'status="499"' not in service.client.get("/metrics").text and time.monotonic() < end:
            time.sleep(0.02)
        assert 'status="499"' in service.client.get("/metrics").text
        held.computed.clear()
        held.gate.set()
        first.join(20)
        assert service.client.post("/embed/text", json={"texts": "c"}).status_code == 200
        assert sum(held.computed) == 2  # the first client's text and this one's


def test_T18_a_client_that_leaves_in_mid_upload_is_one_line(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serve() as service, caplog.at_level(logging.INFO):
        url = service.client.base_url
        with socket.create_connection((url.host, url.port)) as connection:
            head = "POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000"
            connection.sendall(f"{head}\r\n\r\n{{".encode())
            time.sleep(0.2)
        end = time.monotonic() + 10
        while 'status="499"' not in service.client.get("/metrics").text and time.monotonic() < end:
            time.sleep(0.02)
        assert 'status="499"' in service.client.get("/metrics").text
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (RuntimeError("secret path /etc"), 500, "internal_error"),
        (MemoryError(), 503, "out_of_memory"),
        (EncoderError("nonfinite_embedding", "secret"), 500, "nonfinite_embedding"),
    ],
)
def test_J25_X20_one_poisoned_item_fails_alone(
    serve: Any, engine: Engine, failure: Exception, status: int, code: str
) -> None:
    poison = engine.tokenize("poison").ids

    class PoisonedEngine(HeldEngine):
        def compute(self, modality: Modality, queries: Sequence[Query]) -> tuple[list[Answer], dict[str, float]]:
            if modality == "text" and any((query.content == poison).all() for query in queries):
                raise failure
            return super().compute(modality, queries)

    with serve(engine=PoisonedEngine(engine)) as service:
        texts = [f"bird {number}" for number in range(31)]
        body = {"texts": [*texts[:13], "poison", *texts[13:]], "on_error": "partial"}
        data = service.client.post("/embed/text", json=body).json()["data"]
        assert [item["index"] for item in data if "error" in item] == [13]
        assert data[13]["error"]["code"] == code
        refused = service.client.post("/embed/text", json={"texts": "poison"})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert "secret" not in refused.text


def test_X19_a_host_without_memory_for_a_batch_computes_smaller_ones(
    serve: Any, make_settings: Any, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sizes = Engine.around(encoder, make_settings()), list[int]()
    encode, poison = encoder.encode_text, engine.tokenize("poison").ids

    def greedy(tokens: torch.Tensor) -> Any:
        sizes.append(len(tokens))
        if len(tokens) > 4 or (tokens == poison).all(dim=1).any():
            torch.empty(2**47)  # bytes that no machine has room for
        return encode(tokens)

    with serve(engine=engine, max_batch_ms=60_000.0, concurrent_batches=1) as service:
        monkeypatch.setattr(encoder, "encode_text", greedy)
        texts = [f"bird {number}" for number in range(32)]
        assert service.client.post("/embed/text", json={"texts": texts}).status_code == 200
        first = len(sizes)
        assert service.client.post("/embed/text", json={"texts": texts}).status_code == 200
        assert sizes[0] == 32 and max(sizes[first:]) < 16, "those after it are smaller from the start"
        refused = service.client.post("/embed/text", json={"texts": "poison"})
        assert (refused.status_code, refused.json()["code"]) == (503, "out_of_memory")


def test_stopping_ends_every_thread_of_ours(serve: Any) -> None:
    with serve() as service:
        service.client.post("/embed/text", json={"texts": "a"})
    # Other services of this test session keep theirs: the one that stopped must have left none behind.
    workers = service.app.state.service._workers
    assert not workers.batcher.alive
    with pytest.raises(RuntimeError):
        asyncio.run(workers.images.decode(b""))


def test_a_first_probe_that_takes_longer_than_a_request_may_is_no_failure(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, slow = workers.compute, [1.0, 1.0]  # an image and a text, from a cold disk

    def warming_up(*batch: Any) -> Any:
        time.sleep(slow.pop() if slow else 0)
        return compute(*batch)

    monkeypatch.setattr(workers, "compute", warming_up)
    with serve(request_timeout_s=0.5) as service:
        assert service.client.get("/readyz").status_code == 200
    assert not slow
