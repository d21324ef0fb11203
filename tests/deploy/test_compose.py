"""The image and the Compose file, for real: `make docker`. Skipped, with the reason, where no Docker engine answers."""

import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

LABELS = ["a photo of a bird", "a drawing of a duck"]


def has_image(name: str) -> bool:
    """Whether Docker has an image here."""
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def ask(project: Any) -> dict[str, Any]:
    """One text's refined embedding, with what it was refined by."""
    with project.client() as client:
        answer = client.post("/embed/text", json={"texts": "a red bird", "return_neighbours": True, "k": 3})
    assert answer.status_code == 200, answer.text
    return answer.json()


def accepts(project: Any) -> bool:
    """Whether the service takes new connections."""
    try:
        with project.client() as client:
            return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_bare_up_serves_the_demo(demo: Any, photo_bytes: dict[str, bytes]) -> None:
    with demo.client() as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/memory").json()["num_items"] > 0
        files = {"files": ("bird.jpg", photo_bytes["jpeg"], "image/jpeg")}
        classified = client.post("/classify", files=files, data={"labels": str(LABELS).replace("'", '"')})
    assert classified.status_code == 200, classified.text
    assert len(ask(demo)["data"][0]["neighbours"]) == 3


def test_container_may_do_little(demo: Any) -> None:
    status = demo.must("exec", "-T", "reco", "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {"10001"}
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    for folder in ("/", "/app", "/opt/reco", "/etc"):
        written = demo("exec", "-T", "reco", "touch", f"{folder}/x")
        assert written.returncode != 0
        assert "Read-only file system" in written.stderr + written.stdout
    demo.must("exec", "-T", "reco", "touch", "/tmp/x", "/data/x")


def test_published_on_loopback_only(demo: Any) -> None:
    assert demo.must("port", "reco", "8000").strip() == f"127.0.0.1:{demo.port}"


def test_prepare_finds_what_it_made(demo: Any) -> None:
    assert "found the demo /data/demo/" in demo.must("run", "--rm", "prepare")


def test_stop_lets_an_open_request_finish_and_a_restart_answers_the_same(demo: Any) -> None:
    before = ask(demo)
    body = b'{"texts": "a red bird"}'
    with socket.create_connection(("127.0.0.1", demo.port), timeout=30) as open_request:
        head = f"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        open_request.sendall(f"{head}\r\n\r\n".encode() + body[:5])
        stopping = threading.Thread(target=demo.must, args=("stop",))
        stopping.start()
        while accepts(demo):  # until SIGTERM has arrived
            time.sleep(0.1)
        open_request.sendall(body[5:])
        assert open_request.recv(65536).startswith(b"HTTP/1.1 200 ")
    stopping.join(60)
    assert demo.inspect("reco", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}") == "exited 0 false"

    demo.must("up", "--detach")
    demo.wait_until_healthy()
    after = ask(demo)
    assert after["memory_version"] == before["memory_version"]
    assert after["data"] == before["data"]


def test_killed_and_started_again_answers_the_same(demo: Any) -> None:
    before = ask(demo)
    demo.must("kill", "reco")  # SIGKILL
    demo.must("up", "--detach")
    demo.wait_until_healthy()
    assert ask(demo)["data"] == before["data"]


def write_own(project: Any, encoder_dir: Path, tmp_path: Path, photo_bytes: dict[str, bytes]) -> Any:
    """The project with a model and a memory of three photos on its volume; RECO_MEMORY is not set yet."""
    model, pairs = tmp_path / "model", tmp_path / "pairs"
    model.mkdir()
    for file in encoder_dir.iterdir():  # safetensors writes for its owner alone, and the container is somebody else
        shutil.copyfile(file, model / file.name)
    pairs.mkdir()
    for name in ("jpeg", "png", "webp"):
        (pairs / f"{name}.{'jpg' if name == 'jpeg' else name}").write_bytes(photo_bytes[name])
        (pairs / f"{name}.txt").write_text(f"a photo of a {name} bird")
    own = replace(project, settings={**project.settings, "RECO_MODEL": "/data/model"})
    copy = ("--entrypoint", "cp", "build", "-r", "/from", "/data/model")
    own.must("run", "--rm", "-v", f"{model}:/from:ro", *copy)
    own.must("run", "--rm", "-v", f"{pairs}:/corpus:ro", "build", "/corpus", "-o", "/data/my-memory")
    return own


def test_serves_an_own_model_and_memory(
    project: Any, encoder_dir: Path, tmp_path: Path, photo_bytes: dict[str, bytes]
) -> None:
    own = write_own(project, encoder_dir, tmp_path, photo_bytes)
    half = own("run", "--rm", "prepare")
    assert half.returncode != 0
    assert "RECO_MODEL is set but RECO_MEMORY is not" in half.stdout + half.stderr

    own = replace(own, settings={**own.settings, "RECO_MEMORY": "/data/my-memory"})
    own.must("up", "--detach")
    own.wait_until_healthy()
    captions = {neighbour["caption"] for neighbour in ask(own)["data"][0]["neighbours"]}
    assert captions == {f"a photo of a {name} bird" for name in ("jpeg", "png", "webp")}


def test_replicas_behind_the_balancer(
    project: Any, encoder_dir: Path, tmp_path: Path, photo_bytes: dict[str, bytes]
) -> None:
    """`--scale` works, for no replica wants a port of the host; the balancer finds both."""
    project = replace(project, settings={"COMPOSE_PROFILES": "replicas"})
    if not has_image("haproxy:2.6"):
        project("pull", "balancer")  # what Compose 1 exits with says nothing
    if not has_image("haproxy:2.6"):
        pytest.skip("the image haproxy:2.6 is not here and cannot be pulled")
    own = write_own(project, encoder_dir, tmp_path, photo_bytes)
    own = replace(own, settings={**own.settings, "RECO_MEMORY": "/data/my-memory"})
    own.must("up", "--detach", "--scale", "replica=2", "balancer")
    replicas = own.must("ps", "--quiet", "replica").split()
    assert len(replicas) == 2
    end = time.monotonic() + 120
    while True:
        with own.client() as client:
            try:
                if client.get("/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass  # the balancer is not up
        assert time.monotonic() < end, own.must("logs", "balancer", "replica")
        time.sleep(0.5)
    time.sleep(5)  # the second replica, too
    before = ask(own)
    assert [ask(own)["data"] for _ in range(8)] == [before["data"]] * 8
    lines = own.must("logs", "--no-color", "replica").splitlines()
    assert len({line.split("|")[0] for line in lines if "/embed/text" in line}) == 2, "both were asked"
    own.must("kill", "-s", "HUP", "replica")
    own.must("up", "--detach", "--scale", "replica=1", "--no-recreate", "replica")
    assert ask(own)["data"] == before["data"]


def test_a_memory_that_is_not_there_stops_the_start(project: Any) -> None:
    wrong = replace(project, settings={"RECO_MODEL": "/data/model", "RECO_MEMORY": "/data/nowhere"})
    assert wrong("up", "--detach").returncode != 0
    assert "no memory at RECO_MEMORY=/data/nowhere" in wrong.must("logs", "prepare")
