"""Reload: a new version is swapped in under load, a broken one is refused, and no answer mixes two."""

import asyncio
import gc
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from memory import Memory, MemoryClosed
from models.checkpoint import save_fusion
from models.encoder import Encoder
from service.pipeline.engine import Engine
from service.problems import Problem
from service.serving import _reload

AddPair = Callable[[Path, Encoder, str, str], int]


def reload(service: Any) -> Any:
    """Reload as SIGHUP and the operator's route do, from a thread of this test."""
    state = service.app.state.service
    return asyncio.run_coroutine_threadsafe(state.reload(), service.loop).result(30)


def nearest(client: httpx.Client, text: str) -> tuple[int, str]:
    """Memory version and nearest caption of an answer."""
    body = {"texts": text, "k": 1, "return_neighbours": True}
    answer = client.post("/embed/text", json=body).json()
    return answer["memory_version"], answer["data"][0]["neighbours"][0]["caption"]


def test_a_new_version_is_served_without_a_restart(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        new = "two tirrik at night"
        assert nearest(service.client, new)[0] == 1
        assert nearest(service.client, new)[1] != new
        assert reload(service).changed is False
        add_pair(own_memory, encoder, new, "added")
        assert reload(service).changed is True
        assert nearest(service.client, new) == (2, new)
        assert 'reco_memory_info{digest="' in service.client.get("/metrics").text
        assert (
            'version="1"' not in service.client.get("/metrics").text.partition("reco_memory_info{")[2].partition("}")[0]
        )


def test_a_new_fusion_changes_the_space(
    serve: Any, fusion_dir: Path, encoder: Encoder, tmp_path: Path, draw_fusion: Callable[[int], Any]
) -> None:
    own = shutil.copytree(fusion_dir, tmp_path / "fusion")
    with serve(engine=None, fusion=str(own)) as service:
        before = service.client.get("/memory").json()
        shutil.rmtree(own)
        save_fusion(own, draw_fusion(2), encoder.fingerprint.record())
        assert reload(service).changed is True
        after = service.client.get("/memory").json()
        assert before["space"] != after["space"]
        assert before["original_space"] == after["original_space"]


def test_weights_and_their_id_are_of_one_save(
    make_settings: Any, encoder: Encoder, tmp_path: Path, draw_fusion: Callable[[int], Any]
) -> None:
    fusions, record, stopped = [draw_fusion(1), draw_fusion(2)], encoder.fingerprint.record(), threading.Event()
    weights = {save_fusion(tmp_path / "fusion", one, record): one.state_dict() for one in fusions}

    def train_on() -> None:
        while not stopped.is_set():
            for one in fusions:
                save_fusion(tmp_path / "fusion", one, record)

    trainer = threading.Thread(target=train_on)
    trainer.start()
    try:
        for _ in range(40):
            engine = Engine.around(encoder, make_settings(fusion=str(tmp_path / "fusion")))
            assert engine.fusion_id is not None
            assert engine.composed.fusion is not None
            loaded, expected = engine.composed.fusion.state_dict(), weights[engine.fusion_id]
            assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    finally:
        stopped.set()
        trainer.join()


def test_the_memory_of_an_engine_is_closed_with_it(make_settings: Any, encoder: Encoder) -> None:
    engine = Engine.around(encoder, make_settings())
    memory = engine.memory
    query = np.zeros((1, memory.embed_dim), dtype=np.float32)
    query[0, 0] = 1.0
    gc.collect()
    memory.search(query, 1, modality="text")
    del engine
    gc.collect()
    with pytest.raises(MemoryClosed):
        memory.search(query, 1, modality="text")


def test_the_log_says_in_a_sentence_what_was_refused_and_what_to_do(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        known = set(own_memory.glob("indexes/*/shard-*.faiss"))
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        shard = next(iter(set(own_memory.glob("indexes/*/shard-*.faiss")) - known))
        shard.write_bytes(bytes(shard.stat().st_size))
        on_sighup = _reload(service.app.state.service)
        asyncio.run_coroutine_threadsafe(on_sighup, service.loop).result(30)
    (line,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert line.getMessage().startswith(
        f"reload refused: shard_hash_mismatch: {shard.relative_to(own_memory)}: its bytes"
    )
    assert not line.exc_info


@pytest.mark.parametrize(
    ("fault", "code"),
    [("bit", "shard_hash_mismatch"), ("cut", "shard_size_mismatch"), ("gone", "file_missing"),
     ("manifest", "manifest_invalid")],
)  # fmt: skip
def test_X12_X14_a_broken_version_is_refused_and_the_old_serves(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair, fault: str, code: str
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        known = set(own_memory.glob("indexes/*/shard-*.faiss"))
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        shard = next(iter(set(own_memory.glob("indexes/*/shard-*.faiss")) - known))
        if fault == "bit":
            content = bytearray(shard.read_bytes())
            content[-5] ^= 1
            shard.write_bytes(content)
        elif fault == "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        elif fault == "gone":
            shard.unlink()
        else:
            (own_memory / "manifests" / "00000002.json").write_text("{")
        with pytest.raises(Problem) as refused:
            reload(service)
        assert (refused.value.code, refused.value.extensions["reason"]) == ("reload_refused", code)
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["memory_version"], ready.json()["reload_failure"]) == (200, 1, code)
        told = service.client.get("/metrics").text
        assert f'reco_reload_failures_total{{code="{code}"}} 1.0' in told
        assert f'reco_reload_refused{{code="{code}"}} 1.0' in told
        assert nearest(service.client, "a bird")[0] == 1


def test_a_refused_reload_is_told_until_one_is_not(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        manifest = own_memory / "manifests" / "00000002.json"
        whole = manifest.read_text()
        manifest.write_text("{")
        with pytest.raises(Problem):
            reload(service)
        assert "reco_reload_refused{" in service.client.get("/metrics").text
        manifest.write_text(whole)
        reload(service)
        assert "reco_reload_refused{" not in service.client.get("/metrics").text


def test_X16_one_reload_at_a_time(serve: Any, own_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        opened, go_on = threading.Event(), threading.Event()
        open_memory = Memory.open

        def slow(*args: Any, **kwargs: Any) -> Memory:
            opened.set()
            assert go_on.wait(20)
            return open_memory(*args, **kwargs)

        monkeypatch.setattr(Memory, "open", slow)
        first = threading.Thread(target=reload, args=(service,))
        first.start()
        assert opened.wait(10)
        with pytest.raises(Problem, match="reload_in_progress"):
            reload(service)
        go_on.set()
        first.join(20)
        assert reload(service).changed is False


def test_X18_what_a_start_could_not_open_a_reload_can(serve: Any, own_memory: Path, tmp_path: Path) -> None:
    missing = tmp_path / "elsewhere"
    with serve(engine=None, ready=False, memory=str(missing)) as service:
        end = time.monotonic() + 30
        while service.client.get("/readyz").json()["reason"] == "starting" and time.monotonic() < end:
            time.sleep(0.02)
        assert service.client.get("/readyz").json()["reason"] == "memory_not_found"
        shutil.copytree(own_memory, missing)
        assert reload(service).changed is True
        assert service.client.get("/readyz").status_code == 200


def test_X15_reloads_under_load_lose_no_request_and_mix_no_answer(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair
) -> None:
    """Each version adds a caption of its own: an answer's nearest neighbour must be one its version holds."""
    reloads = 6
    captions = {f"halden {word} night velo": number for number, word in enumerate(
        ("red", "blue", "brown", "grey", "black", "white"), start=2)}  # fmt: skip
    with serve(engine=None, memory=str(own_memory)) as service:
        done = threading.Event()
        seen: list[tuple[int, int]] = []
        failed: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=service.url, timeout=60) as client:
                while not done.is_set():
                    body = {"texts": list(captions), "k": 1, "return_neighbours": True}
                    answer = client.post("/embed/text", json=body)
                    if answer.status_code != 200:
                        failed.append(answer.text)
                        return
                    told = answer.json()
                    found = [item["neighbours"][0]["caption"] for item in told["data"]]
                    expected = [text for text, version in captions.items() if version <= told["memory_version"]]
                    seen.append((told["memory_version"], [text in found for text in expected].count(False)))
                    if any(text in found for text in captions if text not in expected):
                        failed.append(f"version {told['memory_version']} answered from a later one: {found}")

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        for caption, version in captions.items():
            assert add_pair(own_memory, encoder, caption, f"added-{version}") == version
            assert reload(service).changed is True
        time.sleep(0.2)
        done.set()
        for asker in askers:
            asker.join(20)
        assert not failed
        assert {version for version, _ in seen} >= {1, reloads + 1}
        assert [missing for _, missing in seen if missing] == []


def test_an_old_version_is_let_go_when_its_last_request_ends(
    serve: Any, own_memory: Path, encoder: Encoder, add_pair: AddPair
) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        old = weakref.ref(service.app.state.service.pipeline.engine.memory)
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        reload(service)
        nearest(service.client, "a bird")
        end = time.monotonic() + 5
        while old() is not None and time.monotonic() < end:
            gc.collect()
            time.sleep(0.05)
        assert old() is None
        assert "reco_generations 1.0" in service.client.get("/metrics").text
