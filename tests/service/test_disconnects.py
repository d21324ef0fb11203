"""Clients that leave, wherever they are: nothing is computed for them and nothing of them stays."""

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

OPEN_FILES = Path("/proc/self/fd")
TIMES = 40  # of each kind


def request(texts: list[str]) -> bytes:
    body = json.dumps({"texts": texts}).encode()
    fields = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST /embed/text HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


def leave(service: Any, sent: bytes, *, after_s: float = 0.0) -> None:
    with socket.create_connection((service.client.base_url.host, service.client.base_url.port)) as connection:
        connection.sendall(sent)
        time.sleep(after_s)


def held_now(service: Any) -> tuple[int, int]:
    """Tasks of the loop and open files."""

    async def count() -> int:
        return len(asyncio.all_tasks())

    tasks = asyncio.run_coroutine_threadsafe(count(), service.loop).result(10)
    return tasks, len(list(OPEN_FILES.iterdir()))


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files in /proc")
def test_X26_clients_that_leave_leave_nothing(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serve() as service:
        whole = request(["a red bird", "a duck"])
        assert service.client.post("/embed/text", json={"texts": "a bird"}).status_code == 200
        tasks, files = held_now(service)
        for _ in range(TIMES):
            leave(service, whole[:-10])  # before the body ends
            leave(service, whole)  # in the queue or in the batch
            leave(service, request([f"bird {number}" for number in range(64)]), after_s=0.005)
        end = time.monotonic() + 20
        while any(now > before for now, before in zip(held_now(service), (tasks, files), strict=True)):
            assert time.monotonic() < end, f"{held_now(service)} tasks and open files, and {(tasks, files)} before"
            time.sleep(0.05)
        batcher = service.app.state.service.pipeline.batcher
        assert not any(batcher._admitted.values()), "a permit was kept"
        assert service.client.post("/embed/text", json={"texts": "a bird"}).status_code == 200
    assert "Traceback" not in caplog.text
