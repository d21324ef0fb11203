"""The service on a memory in an object store: the operator's setting names it, a copy answers, a new version swaps in.

On moto's S3-compatible server.
"""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import StoreUnavailable
from memory.stores import StoredFolder
from models.encoder import Encoder
from service import lifecycle
from service.environment import load_settings
from service.settings import SettingsError

TEXTS = ["a photo of a red duck", "a photo of a grey raptor"]


def rows(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([item["embedding"] for item in answer.json()["data"]])


def ask(service: Any) -> Any:
    return service.client.post("/embed/text", json={"texts": TEXTS})


def until(what: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "RECO_ALLOW_REMOTE=s3"),
        ({"RECO_ALLOW_REMOTE": "gs"}, "RECO_ALLOW_REMOTE=s3"),
        ({"RECO_ALLOW_REMOTE": "s3;rm"}, "RECO_ALLOW_REMOTE"),
    ],
)
def test_an_address_needs_the_setting(variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"RECO_MODEL": "m", "RECO_MEMORY": "s3://bucket/memory", **variables}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings()
    monkeypatch.setenv("RECO_ALLOW_REMOTE", "gs, s3")
    assert load_settings().allowed_schemes == ("gs", "s3")


@pytest.mark.stores
def test_it_answers_as_from_the_directory_and_follows_the_store(
    bucket: Any, serve: Any, own_memory: Path, add_pair: Any, encoder: Encoder, tmp_path: Path
) -> None:
    remote = {
        "engine": None,
        "memory": bucket.upload(own_memory, "birds"),
        "allow_remote": "s3",
        "remote_cache": str(tmp_path / "copies"),
        "watch_memory_s": 0.2,
    }
    with serve(memory=str(own_memory)) as here, serve(**remote) as there:
        assert np.array_equal(rows(ask(here)), rows(ask(there)))
        assert ask(here).json()["space"] == ask(there).json()["space"]
        add_pair(own_memory, encoder, "a photo of a red duck", "new")
        bucket.upload(own_memory, "birds")
        until(lambda: ask(there).json()["memory_version"] == 2)
        assert there.client.get("/memory").json()["num_items"] == 25


@pytest.mark.stores
def test_a_damaged_version_is_not_served(
    bucket: Any, serve: Any, own_memory: Path, add_pair: Any, encoder: Encoder, tmp_path: Path
) -> None:
    address = bucket.upload(own_memory, "birds")
    changes = {"engine": None, "memory": address, "allow_remote": "s3", "remote_cache": str(tmp_path / "copies")}
    with serve(**changes, watch_memory_s=0.2) as service:
        before = rows(ask(service))
        add_pair(own_memory, encoder, "a photo of a red duck", "new")
        newest = shutil.copytree(own_memory, tmp_path / "newest")
        for path in (newest / "segments").rglob("image.f16.npy"):
            path.write_bytes(path.read_bytes()[:-2] + b"\0\1")
        for key in bucket.keys("birds/segments"):
            bucket.delete(key)
        bucket.upload(newest, "birds")
        until(lambda: "shard_hash_mismatch" in service.client.get("/metrics").text)
        assert ask(service).json()["memory_version"] == 1
        assert np.array_equal(rows(ask(service)), before)


@pytest.mark.stores
def test_a_store_that_is_away_at_the_start_is_asked_until_it_is_there(
    bucket: Any, serve: Any, own_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = bucket.upload(own_memory, "birds")
    away = threading.Event()
    away.set()
    listed = StoredFolder.objects

    def objects(self: StoredFolder) -> Any:
        if away.is_set():
            raise StoreUnavailable("the store failed")
        return listed(self)

    monkeypatch.setattr(StoredFolder, "objects", objects)
    monkeypatch.setattr(lifecycle, "AWAY_S", 0.2)
    changes = {"engine": None, "memory": address, "allow_remote": "s3", "remote_cache": str(tmp_path / "copies")}
    with serve(**changes, ready=False, watch_memory_s=0.2) as service:
        until(lambda: service.client.get("/readyz").json().get("reason") == "store_unavailable")
        assert service.client.get("/livez").status_code == 200
        away.clear()
        until(lambda: service.client.get("/readyz").status_code == 200)
        away.set()
        time.sleep(0.5)  # the watch asks, and is not answered
        assert ask(service).json()["memory_version"] == 1
        assert service.client.get("/readyz").status_code == 200
