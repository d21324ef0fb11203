"""Faults around a service in a process of its own (THREATS §3): killed, short of files, on a full disk, beside a hog.

X34 is of processes that decode, as beside a GPU; a thread that crashes takes all along: X29 follows.
X17 has no test: a memory is mapped, so a reload allocates nothing that the kernel could not take back.
"""

import base64
import os
import resource
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.door.keys import key_line, new_key

TEXT = {"texts": "a tirrik by night"}
GIF_PIXEL = "R0lGODlhAQABAIAAAICAgP///ywAAAAAAQABAAACAkQBADs="


def embed(url: str) -> list[float]:
    answer = httpx.post(f"{url}/embed/text", json=TEXT, timeout=30)
    assert answer.status_code == 200, answer.text
    vector: list[float] = answer.json()["data"][0]["embedding"]
    return vector


def test_X13_a_shard_that_is_gone_after_loading_is_not_missed(serve: Any, own_memory: Path) -> None:
    with serve(engine=None, memory=str(own_memory)) as service:
        before = embed(service.url)
        shards = list(own_memory.glob("indexes/*/shard-*.faiss"))
        assert shards
        for shard in shards:
            shard.unlink()
        assert embed(service.url) == before
        assert service.client.get("/readyz").status_code == 200


def test_X29_killed_and_started_again_it_answers_the_same(serve_process: Any, own_memory: Path) -> None:
    answers = []
    for _ in range(2):
        with serve_process(memory=own_memory) as service:
            service.wait_until_ready()
            answers.append(embed(service.url))
            # Killed in the middle of work, not beside it.
            asking = threading.Thread(target=_ask_until_it_breaks, args=(service.url,))
            asking.start()
            time.sleep(0.3)
            service.kill()
            asking.join(30)
    assert answers[0] == answers[1]
    assert [path.name for path in own_memory.iterdir() if path.name.startswith((".", "tmp"))] == []


def _ask_until_it_breaks(url: str) -> None:
    with pytest.raises(httpx.TransportError), httpx.Client(timeout=30) as client:
        while True:
            client.post(f"{url}/embed/text", json=TEXT)


def test_X30_out_of_file_descriptors_it_recovers_without_a_restart(serve_process: Any) -> None:
    with serve_process() as service:
        service.wait_until_ready()
        pid = service.process.pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        host, port = "127.0.0.1", int(service.url.rpartition(":")[2])
        crowd = [socket.create_connection((host, port)) for _ in range(40)]
        time.sleep(0.5)
        for one in crowd:
            one.close()
        end = time.monotonic() + 10
        while True:
            try:
                embed(service.url)
                break
            except httpx.TransportError:
                assert time.monotonic() < end, service.log.read_text()
                time.sleep(0.2)
        assert service.process.poll() is None


def test_X31_with_no_room_to_write_it_serves(serve_process: Any, tmp_path: Path) -> None:
    """A file may not grow by a byte, as on a full disk or a read-only root; its stamps cannot be kept, that is all."""
    missing = {name: str(tmp_path / "missing") for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME")}
    with serve_process(environ=missing, stamps=tmp_path / "missing" / "stamps") as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        service.wait_until_ready()
        embed(service.url)
        files = [("files", (f"{number}.gif", _gif_of(2**20), "image/gif")) for number in range(8)]
        answer = httpx.post(f"{service.url}/embed/image", files=files, data={"on_error": "partial"}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert service.process.poll() is None


def _gif_of(size: int) -> bytes:
    """One pixel, and so many bytes behind the end of the picture that a server would spool them."""
    return base64.b64decode(GIF_PIXEL) + bytes(size)


def test_X34_decoders_that_are_killed_are_missed_by_nobody(serve_process: Any, photo_bytes: dict[str, bytes]) -> None:
    with serve_process(decoding="processes") as service:
        service.wait_until_ready()
        photo, headers = photo_bytes["jpeg"], {"content-type": "image/jpeg"}
        before = httpx.post(f"{service.url}/embed/image", content=photo, headers=headers, timeout=30).json()["data"]
        for _ in range(3):
            decoders = _decoders(service.process.pid)
            assert decoders
            for pid in decoders:
                os.kill(pid, signal.SIGKILL)
            started = time.monotonic()
            answer = httpx.post(f"{service.url}/embed/image", content=photo, headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"] == before
            assert time.monotonic() - started < 10  # 2 s where no other test takes the cores


def test_X29_a_server_that_is_killed_leaves_no_decoder(serve_process: Any) -> None:
    with serve_process(decoding="processes") as service:
        service.wait_until_ready()
        left = {pid for pid in _family(service.process.pid) if pid != service.process.pid}
        assert set(_decoders(service.process.pid)) < left
        service.kill()
        end = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in left):
            assert time.monotonic() < end, "processes of a killed server live on"
            time.sleep(0.05)


def _decoders(server: int) -> list[int]:
    """The processes that decode: children of the server of forks, which is one of the server's own."""

    return [grandchild for child in _children(server) for grandchild in _children(child)]


def _children(pid: int) -> list[int]:
    found = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for path in found for child in path.read_text().split()]


def _family(pid: int) -> list[int]:
    return [pid, *(one for child in _children(pid) for one in _family(child))]


def test_X25_a_greedy_key_slows_nobody_else(serve: Any, tmp_path: Path) -> None:
    greedy, modest = new_key(), new_key()
    (tmp_path / "keys").write_text(
        f"{key_line('greedy', ['use'], greedy)} rate=2 concurrency=2\n{key_line('modest', ['use'], modest)}\n"
    )
    with serve(api_keys_file=str(tmp_path / "keys")) as service:
        alone = _latencies(service.url, modest, 40)
        done, statuses = threading.Event(), []

        def flood() -> None:
            headers = {"Authorization": f"Bearer {greedy}"}
            with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
                while not done.is_set():
                    statuses.append(client.post("/embed/text", json=TEXT).status_code)
                    done.wait(0.005)  # far more than 10 times what it may

        flooding = threading.Thread(target=flood)
        flooding.start()
        beside = _latencies(service.url, modest, 40)
        done.set()
        flooding.join(30)
    assert set(statuses) == {200, 429}
    assert statuses.count(429) > statuses.count(200)
    assert np.median(beside) <= 2 * np.median(alone) + 0.05  # the median: other processes stretch some of them


def _latencies(url: str, key: str, count: int) -> list[float]:
    spent = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        for _ in range(count):
            started = time.perf_counter()
            assert client.post("/embed/text", json=TEXT).status_code == 200
            spent.append(time.perf_counter() - started)
    return spent


def test_X27_X35_a_start_from_a_volume_that_does_not_answer_can_be_ended(
    serve_process: Any, fusion_dir: Path, tmp_path: Path
) -> None:
    stuck = shutil.copytree(fusion_dir, tmp_path / "fusion")
    [weights] = stuck.glob("fusion-*.safetensors")
    weights.unlink()
    pipe = stuck / "fusion.safetensors"
    os.mkfifo(pipe)
    with serve_process(fusion=stuck, drain_delay_s=0.2) as started:
        silent = _writer_of(pipe)  # reading it never ends, as on a volume that is gone
        assert httpx.get(f"{started.url}/readyz").json()["reason"] == "starting"
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(15) == 0, started.log.read_text()
    os.close(silent)


def test_X16_a_reload_asked_for_while_it_loads_ends_nothing(serve_process: Any) -> None:
    with serve_process() as started:
        _wait_for_line(started.log, "loading")
        started.process.send_signal(signal.SIGHUP)
        started.wait_until_ready()
        assert started.process.poll() is None, started.log.read_text()
        assert httpx.post(f"{started.url}/embed/text", json=TEXT).status_code == 200


def test_X27_the_third_SIGTERM_cuts_what_is_open_without_an_error(serve_process: Any) -> None:
    with serve_process(drain_delay_s=30.0, receive_timeout_s=60.0) as service:
        service.wait_until_ready()
        address = httpx.URL(service.url)
        with socket.create_connection((address.host, address.port)) as slow:
            slow.sendall(b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            slow.sendall(b"Content-Length: 100\r\n\r\n{")
            for told in ("draining", "Waiting for connections to close", ""):
                service.process.send_signal(signal.SIGTERM)
                _wait_for_line(service.log, told)
            assert service.process.wait(15) == 0
    assert "Traceback" not in service.log.read_text()


def _wait_for_line(log: Path, told: str) -> None:
    end = time.monotonic() + 30
    while told not in log.read_text():
        assert time.monotonic() < end, f"never said: {told}"
        time.sleep(0.05)


def _writer_of(pipe: Path) -> int:
    """The writing end of a pipe, once somebody reads it."""
    end = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < end, "nobody reads it"
            time.sleep(0.05)
