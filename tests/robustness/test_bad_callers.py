"""The rest of THREATS §2.6, beside what tests/service/test_keys.py holds; and the operator's own port (T22)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served_process import free_port

from service.door.keys import key_line, new_key
from service.door.limits import Limiter, Limits
from service.problems import Problem

USE, OPERATOR = new_key(), new_key()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def closed(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{key_line('web', ['use'], USE)}\n{key_line('admin', ['operator'], OPERATOR)}\n")
    with serve(api_keys_file=str(path)) as service:
        yield service.client


@pytest.mark.parametrize("size", [60_000, 2**20])
def test_K3_a_huge_key_is_refused_before_it_is_looked_at(closed: httpx.Client, size: int) -> None:
    try:
        answer = closed.get("/memory", headers=bearer("x" * size))
    except httpx.TransportError:
        assert size == 2**20  # the answer may be lost while the rest is still being sent
    else:
        assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert closed.get("/memory", headers=bearer(USE)).status_code == 200


def test_K8_the_clock_of_the_wall_neither_locks_out_nor_lets_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, limits = Limiter(), Limits(rate=0.001, burst=2)

    def ask() -> None:
        with limiter.admit("a", limits, lambda: 1):
            pass

    wall = time.time
    ask()
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    ask()  # an hour back: what is left in the bucket is still there
    monkeypatch.setattr(time, "time", lambda: wall() + 10 * 365 * 86_400)
    with pytest.raises(Problem, match="rate_limited"):
        ask()  # ten years on: nothing has been filled up


def test_K9_documents_hold_nothing_of_the_service_and_nothing_else_is_there(closed: httpx.Client) -> None:
    for path in ("/docs", "/openapi.json"):
        text = closed.get(path).text
        assert "tiny-clip" not in text
        assert "pair-0" not in text
    for path in ("/debug", "/debug/pprof", "/redoc", "/docs/oauth2-redirect", "/.env", "/server-status"):
        assert closed.get(path).status_code == 401
        assert closed.get(path, headers=bearer(USE)).status_code == 404


@pytest.mark.parametrize("where", ["../other", "/etc/passwd", "http://example.org/m", "file:///m", "a\x00b"])
def test_K10_a_reload_takes_no_place_from_the_request(closed: httpx.Client, where: str) -> None:
    before = closed.get("/memory", headers=bearer(USE)).json()
    for request in ({"json": {"memory": where}}, {"content": where.encode()}, {"data": {"path": where}}):
        refused = closed.post("/operator/reload", headers=bearer(OPERATOR), **request)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    for path in (f"/operator/reload/{where}", "/operator/../operator/reload/x"):
        assert closed.post(path.replace("\x00", "%00"), headers=bearer(OPERATOR)).status_code in (404, 405)
    closed.post("/operator/reload", headers=bearer(OPERATOR), params={"memory": where})
    after = closed.get("/memory", headers=bearer(USE)).json()
    assert (after["memory_version"], after["digest"]) == (before["memory_version"], before["digest"])


def test_K12_no_origin_is_let_in(closed: httpx.Client) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/embed/text", "/v1/embeddings", "/operator/reload", "/memory"):
        for answer in (closed.options(path, headers=asked), closed.get(path, headers=asked | bearer(USE))):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_K12_only_the_origins_that_were_named_are_let_in(serve: Any) -> None:
    app, evil = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    with serve(cors_origins="https://app.example.com, http://localhost:3000", api_keys=f"web use {USE}") as service:
        asked = service.client.options("/embed/text", headers=app | wanted)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, app["Origin"])
        assert "access-control-allow-credentials" not in asked.headers
        assert service.client.options("/embed/text", headers=evil | wanted).status_code == 400
        theirs = wanted | {"Access-Control-Request-Headers": "authorization, tracestate, x-stainless-lang"}  # OpenAI's
        assert service.client.options("/v1/embeddings", headers=app | theirs).status_code == 200
        for headers, status in ((app | bearer(USE), 200), (app, 401)):  # a script may read a refusal, too
            answer = service.client.post("/embed/text", json={"texts": "a"}, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, app["Origin"])
            assert "X-Reco-Space" in answer.headers["access-control-expose-headers"]
        answer = service.client.post("/embed/text", json={"texts": "a"}, headers=evil | bearer(USE))
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost:8000", 200), ("LocalHost.", 200), ("[::1]:8000", 200), ("192.168.0.7", 200),
     ("reco:8000", 200), ("box.local", 200), ("clip.example.com", 200), ("clip.example.com:443", 200),
     ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("evil.example:8000", 421),
     ("localhost.evil.example", 421), ("a.clip.example.com", 421), ("[::1].evil.example", 421),
     ("127.0.0.1:8000:80", 421)],
)  # fmt: skip
def test_a_page_that_gives_its_own_name_our_address_reads_nothing(named: httpx.Client, host: str, status: int) -> None:
    """DNS rebinding: to the browser the service is then a part of that page."""
    for answer in (
        named.get("/memory", headers={"Host": host}),
        named.post("/embed/text", json={"texts": "a"}, headers={"Host": host}),
    ):
        assert answer.status_code == status, answer.text
        assert status == 200 or answer.json()["code"] == "host_unknown"
    assert named.get("/readyz", headers={"Host": host}).status_code == 200


@pytest.fixture(scope="module")
def named(serve: Any) -> Iterator[httpx.Client]:
    """A client of a service without keys on loopback, which answers to one name."""
    with serve(allowed_hosts="clip.example.com") as service:
        yield service.client


def test_who_has_a_key_or_listens_beyond_loopback_may_have_any_name(serve: Any, closed: httpx.Client) -> None:
    evil = {"Host": "evil.example"}
    assert closed.get("/memory", headers=bearer(USE) | evil).status_code == 200
    for settings, status in (({}, 421), ({"allowed_hosts": "*"}, 200), ({"host": "0.0.0.0"}, 200)):
        with serve(**settings) as service:
            assert service.client.get("/memory", headers=evil).status_code == status


@pytest.fixture
def two_ports(serve_process: Any, tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A service process with an operator's port: a client of each."""
    (tmp_path / "keys").write_text(f"{key_line('web', ['use'], USE)}\n{key_line('admin', ['operator'], OPERATOR)}\n")
    operator_port = free_port()
    own = {"api_keys_file": tmp_path / "keys", "max_connections": 4, "graceful_shutdown_s": 1}
    with serve_process(operator_port=operator_port, **own) as service:
        service.wait_until_ready(operator_port)
        with (
            httpx.Client(base_url=service.url, timeout=30) as front,
            httpx.Client(base_url=f"http://127.0.0.1:{operator_port}", timeout=30) as operator,
        ):
            yield front, operator


def test_a_taken_operators_port_ends_the_process_whatever_is_being_loaded(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from service.environment import load_settings\n"
        "from service.pipeline.engine import Engine\n"
        "from service.serving import run\n"
        "Engine.open = staticmethod(lambda settings: time.sleep(60))\n"
        "run(load_settings())\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"model": tmp_path, "memory": tmp_path, "port": free_port(), "operator_port": taken.getsockname()[1]}
        environ = {**os.environ, **{f"RECO_{name.upper()}": str(value) for name, value in names.items()}}
        ended = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, timeout=45, check=False
        )
    assert ended.returncode not in (0, None)
    assert b"address already in use" in ended.stderr


def test_T22_a_crowd_at_the_front_leaves_the_operators_port_open(two_ports: tuple[httpx.Client, httpx.Client]) -> None:
    front, operator = two_ports
    url = front.base_url
    assert front.get("/memory", headers=bearer(USE)).status_code == 200
    assert (front.get("/metrics").status_code, operator.get("/metrics").status_code) == (404, 200)
    assert front.post("/operator/reload", headers=bearer(OPERATOR)).status_code == 404
    assert operator.get("/memory", headers=bearer(USE)).status_code == 404
    crowd = [socket.create_connection((url.host, url.port)) for _ in range(8)]
    time.sleep(0.2)
    try:
        with httpx.Client(base_url=url) as stranger:
            assert stranger.get("/readyz").status_code == 503
        for _ in range(5):
            assert operator.get("/readyz").status_code == 200
        assert operator.post("/operator/reload", headers=bearer(OPERATOR)).json()["changed"] is False
    finally:
        for one in crowd:
            one.close()
