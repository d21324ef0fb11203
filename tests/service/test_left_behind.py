"""Requests that fail leave nothing that only a full garbage collection would find: a busy service puts it off."""

import gc
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.forms.images import ImageRequest
from service.pipeline.trace import Trace
from service.problems import Problem

TIMES = 10
HELD = (ImageRequest, Problem, Trace)


def held_after(work: Callable[[int], object]) -> dict[str, int]:
    """What is alive of failed requests, by type, once their answers are there."""
    gc.collect()
    gc.disable()
    try:
        for number in range(TIMES):
            work(number)
        end = time.monotonic() + 5
        while True:
            alive = [type(one).__name__ for one in gc.get_objects() if type(one) in HELD]
            if not alive or time.monotonic() > end:
                return {name: alive.count(name) for name in alive}
            time.sleep(0.1)
    finally:
        gc.enable()


def labels(number: int) -> dict[str, str]:
    return {"labels": json.dumps([f"bird {number}", "a duck"])}


@pytest.mark.parametrize(("path", "options"), [("/embed/image", lambda number: {}), ("/classify", labels)])
def test_who_comes_too_late_leaves_nothing(serve: Any, photo_bytes: dict[str, bytes], path: str, options: Any) -> None:
    photo = next(iter(photo_bytes.values()))
    with serve(request_timeout_s=0.001) as service:

        def ask(number: int) -> None:
            answer = service.client.post(path, files=[("files", photo)] * 2, data=options(number))
            # 503: the labels that an earlier request began go on, and are more than this one has time for.
            assert answer.status_code in ((503, 504) if path == "/classify" else (504,))

        assert not held_after(ask)


def test_who_leaves_leaves_nothing(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    photo = next(iter(photo_bytes.values()))
    with serve() as service:
        url: httpx.URL = service.client.base_url

        def leave(number: int) -> None:
            form = httpx.Request("POST", url.join("/classify"), files=[("files", photo)] * 8, data=labels(number))
            body = form.read()
            fields = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
            with socket.create_connection((url.host, url.port)) as connection:
                connection.sendall(f"POST /classify HTTP/1.1\r\n{fields}\r\n".encode() + body)
                time.sleep(0.005)

        assert not held_after(leave)
