"""One real server, operated: a name that nobody has seen is taught to it, it is told to reload, and it is stopped.

The world is a corner of the demo's: its tiny CLIP, twenty known species in the memory, and a fusion fitted on them.
The tests run in their order; the last one ends the server.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
from served_process import free_port, wait_until_ready

from demo.clip import tiny_clip_directory
from demo.shots import Shot, species_shot
from demo.species import Species, species_of
from memory import ITEMS_SCHEMA, MODALITIES, Contents, Memory, Rows, UnitRecord, build_index, publish, write_segment
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.training.dataset.entities import by_names
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from models.training.recipes import fusion_config
from service.door.keys import key_line, new_key

KNOWN = species_of("known")[:20]
NEW: Species = species_of("unseen")[0]
PAIRS_PER_SPECIES = 5
DRAIN_S = 2.0


@dataclass(frozen=True)
class Operated:
    """A server with one operator's key, open to everybody else."""

    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    memory: Path
    operator: dict[str, str]


def draw(species: Species, collection: str, count: int) -> list[Shot]:
    return [species_shot(species, collection, number) for number in range(count)]


def write_world(root: Path) -> None:
    """A memory of the known species and a fusion fitted on it."""
    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu", dtype="float32")
    shots = [shot for one in KNOWN for shot in draw(one, "guide/known", PAIRS_PER_SPECIES)]
    pictures = [shot.png() for shot in shots]
    columns = {
        "key": [shot.key for shot in shots],
        "caption": [shot.caption for shot in shots],
        "source": ["drawn"] * len(shots),
        "content_sha256": [hashlib.sha256(picture).hexdigest() for picture in pictures],
        "thumbnail": [None] * len(shots),
    }
    images = encoder.encode_image(torch.stack([encoder.preprocess(picture) for picture in pictures]))
    texts = encoder.encode_text(encoder.tokenize(columns["caption"]).ids)
    rows = Rows(images.astype(np.float16), texts.astype(np.float16), pa.table(columns, schema=ITEMS_SCHEMA))
    segments = (write_segment(root / "memory", [rows], [UnitRecord("guide", len(shots))]),)
    indexes = {side: build_index(root / "memory", segments, side) for side in MODALITIES}
    fingerprint = encoder.fingerprint
    made_by = {"encoder": fingerprint.record(), "encoded_with": fingerprint.encoded_with()}
    publish(root / "memory", Contents(**made_by, segments=segments, indexes=indexes))
    with Memory.open(root / "memory") as memory:
        pairs = EntityPairs.from_memory(memory, by_names(memory.captions(), [one.name for one in KNOWN]))
        fusion = fit_evidence(pairs, fusion_config("evidence", memory.embed_dim), 0)
    save_fusion(root / "fusion", fusion, fingerprint.record())


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    root = tmp_path_factory.mktemp("operated")
    write_world(root)
    key = new_key()
    (root / "keys").write_text(key_line("admin", ["operator"], key))
    port = free_port()
    settings = {
        "RECO_MODEL": str(tiny_clip_directory()),
        "RECO_MEMORY": str(root / "memory"),
        "RECO_FUSION": str(root / "fusion"),
        "RECO_API_KEYS_FILE": str(root / "keys"),
        "RECO_STAMPS": str(root / "stamps"),
        "RECO_PORT": str(port),
        "RECO_DTYPE": "float32",
        "RECO_DRAIN_DELAY_S": str(DRAIN_S),
        "RECO_RECEIVE_TIMEOUT_S": "60",
        "RECO_GRACEFUL_SHUTDOWN_S": "3",
    }
    with (root / "log").open("wb") as log:
        command = [sys.executable, "-m", "reco.cli", "serve"]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(str(client.base_url), process, (root / "log").read_text)
            yield Operated(process, client, root / "memory", {"Authorization": f"Bearer {key}"})
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (root / "log").read_text()


def right_answers(operated: Operated) -> int:
    """How many of eight new pictures of the new species are named, among nine known ones of its kind."""
    labels = json.dumps([NEW.name, *(one.name for one in KNOWN[:9])])
    files = [("files", shot.png()) for shot in draw(NEW, "quiz/unseen", 8)]
    answer = operated.client.post("/classify", files=files, data={"labels": labels})
    assert answer.status_code == 200, answer.text
    return sum(item["label"] == NEW.name for item in answer.json()["data"])


def test_a_name_nobody_has_seen_is_taught_on_the_spot(operated: Operated) -> None:
    assert right_answers(operated) == 0
    files = [("files", shot.png()) for shot in draw(NEW, "newcomers/unseen", 5)]
    form = {"name": NEW.name}
    refused = operated.client.post("/operator/pairs", files=files, data=form)
    assert refused.status_code == 401
    added = operated.client.post("/operator/pairs", files=files, data=form, headers=operated.operator)
    assert added.status_code == 200, added.text
    assert len(added.json()["added"]) == 5
    assert right_answers(operated) >= 7


def test_SIGHUP_serves_what_a_command_changed_and_reads_the_keys_again(operated: Operated) -> None:
    keys = operated.memory.parent / "keys"
    other = new_key()
    keys.write_text(keys.read_text() + "\n" + key_line("second", ["operator"], other))
    pattern = "guide/known/*-000*"
    command = [sys.executable, "-m", "reco.cli", "memory", "remove", str(operated.memory), "--keys", pattern]
    subprocess.run(command, check=True, capture_output=True)
    before = operated.client.get("/memory").json()
    operated.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 30
    while operated.client.get("/memory").json()["memory_version"] == before["memory_version"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    after = operated.client.get("/memory").json()
    assert (after["memory_version"], after["num_items"]) == (3, before["num_items"] - len(KNOWN))
    answer = operated.client.post("/operator/reload", headers={"Authorization": f"Bearer {other}"})
    assert answer.json()["changed"] is False


def test_X27_X28_SIGTERM_under_load_loses_nothing_and_ends_with_0(operated: Operated) -> None:
    """Requests sent before the delay ends are answered; a stalled upload does not keep the process."""
    statuses: list[int] = []
    sent_until = time.monotonic() + DRAIN_S * 0.8
    url = operated.client.base_url
    stalled = socket.create_connection((url.host, url.port))
    stalled.sendall(
        b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )

    def ask() -> None:
        while time.monotonic() < sent_until:
            with httpx.Client(base_url=url, timeout=30) as client:  # a new connection each: it must still be accepted
                statuses.append(client.post("/embed/text", json={"texts": "a bird"}).status_code)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    operated.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    drained = operated.client.get("/readyz")
    assert (drained.status_code, drained.json()["reason"]) == (503, "draining")
    assert operated.client.get("/livez").status_code == 200
    while "close" not in operated.client.get("/livez").headers.get("connection", ""):  # of a connection that is kept
        assert time.monotonic() < sent_until, "who keeps a connection is cut at the end"
        time.sleep(0.05)
    for asker in askers:
        asker.join()
    assert operated.process.wait(DRAIN_S + 15) == 0
    assert set(statuses) == {200}
    assert len(statuses) > 3
    stalled.close()
