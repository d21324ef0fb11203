"""Keys, scopes, rates and the operator port: THREATS §2.6."""

import asyncio
import base64
import gc
import hashlib
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from reco.cli import app as command_line
from service.app import create_app
from service.door.access import Access
from service.door.keys import is_intact, key_line, new_key, read_keys
from service.door.limits import Limiter, Limits
from service.environment import show_settings
from service.problems import Problem
from service.settings import Settings, SettingsError

USE, OPERATOR, SLOW = new_key(), new_key(), new_key()


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user, an operator that may do nothing else, and a user with limits of its own."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    lines = [
        "# who may ask",
        key_line("web", ["use"], USE),
        key_line("admin", ["operator"], OPERATOR),
        key_line("slow", ["use"], SLOW) + " rate=0.5 concurrency=2  # a guest",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def closed(serve: Any, keys_file: Path) -> Any:
    with serve(api_keys_file=str(keys_file)) as service:
        yield service


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(client: httpx.Client, **kwargs: Any) -> httpx.Response:
    return client.post("/embed/text", json={"texts": "a bird"}, **kwargs)


@pytest.mark.parametrize(
    "headers",
    [{}, bearer(new_key()), bearer("short"), bearer(USE[:-1]), {"Authorization": USE}, {"X-API-Key": USE},
     {"Authorization": f"Basic {USE}"}, {"Authorization": f"Bearer {USE} {USE}"},
     {"Authorization": "Bearer schlüssel".encode()}],
)  # fmt: skip
def test_K1_K2_no_key_or_a_wrong_one_is_401_in_one_form(closed: Any, headers: Any) -> None:
    answer = ask(closed.client, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance", "code"}


def test_K1_a_key_in_the_query_is_none_and_two_headers_are_a_bad_request(closed: Any) -> None:
    assert ask(closed.client, params={"api_key": USE}).status_code == 401
    twice = ask(closed.client, headers=[("Authorization", f"Bearer {USE}")] * 2)
    assert (twice.status_code, twice.json()["code"]) == (400, "request_invalid")


def test_a_key_opens_what_its_scope_names(closed: Any) -> None:
    assert ask(closed.client, headers=bearer(USE)).status_code == 200
    assert ask(closed.client, headers={"Authorization": f"bEARER {USE}"}).status_code == 200
    wrong = ask(closed.client, headers=bearer(OPERATOR))
    assert (wrong.status_code, wrong.json()["code"]) == (403, "scope_missing")
    assert wrong.json()["expected"] == "a key with the scope use"
    assert closed.client.post("/operator/reload", headers=bearer(OPERATOR)).json()["changed"] is False


def test_K4_the_operator_routes_want_its_scope(closed: Any) -> None:
    assert closed.client.post("/operator/reload").status_code == 401
    refused = closed.client.post("/operator/reload", headers=bearer(USE))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert refused.json()["expected"] == "a key with the scope operator"


def test_what_the_door_refuses_is_counted_at_its_path(closed: Any) -> None:
    def counted(endpoint: str) -> str:
        name = f'reco_requests_total{{endpoint="{endpoint}",method="POST",status="401"}} '
        return closed.client.get("/metrics").text.partition(name)[2].partition("\n")[0]

    elsewhere = counted("unmatched")
    before = float(counted("/embed/text") or 0)
    assert ask(closed.client).status_code == 401
    assert float(counted("/embed/text")) == before + 1
    assert counted("unmatched") == elsewhere
    assert closed.client.post("/embed/nothing").status_code == 401
    assert float(counted("unmatched")) == float(elsewhere or 0) + 1


def test_openai_clients_get_their_own_form_of_401(closed: Any) -> None:
    answer = closed.client.post("/v1/embeddings", json={"model": "x", "input": "a"})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"


def paths_of(app: Any) -> list[tuple[str, str]]:
    """Every method and path that the app routes, by what its routers hold and by its OpenAPI document."""
    found = set()
    routes = list(app.routes)
    while routes:
        route = routes.pop()
        routes += list(getattr(route, "routes", ()))
        inner = getattr(route, "original_router", None)
        routes += [] if inner is None else list(inner.routes)
        for method in getattr(route, "methods", None) or ():
            found.add((method, re.sub(r"\{[^}]*\}", "x", route.path)))
    for path, methods in app.openapi()["paths"].items():
        found |= {(method.upper(), re.sub(r"\{[^}]*\}", "x", path)) for method in methods}
    return sorted(found)


def test_K5_every_route_needs_a_key_but_those_listed(closed: Any) -> None:
    probes, page = {"/livez", "/readyz", "/health", "/metrics"}, {"/", "/page/x", "/samples", "/samples/x"}
    routes = paths_of(closed.app)
    assert {("POST", "/embed/image"), ("GET", "/page/x"), ("GET", "/"), ("POST", "/operator/reload")} <= set(routes)
    opened = {path for method, path in routes if closed.client.request(method, path).status_code != 401}
    assert opened == probes | page | {"/docs", "/openapi.json"}
    assert closed.client.get("/nowhere").status_code == 401


def test_operator_routes_are_not_there_without_an_operators_key(client: httpx.Client, serve: Any) -> None:
    assert client.post("/operator/reload").status_code == 404
    assert client.post("/operator/reload", headers=bearer(OPERATOR)).status_code == 404
    with serve(api_keys=USE) as service:
        assert service.client.post("/operator/reload", headers=bearer(USE)).status_code == 404


def test_an_operators_key_alone_leaves_the_service_open(serve: Any) -> None:
    with serve(api_keys=f"admin operator {OPERATOR}") as service:
        assert ask(service.client).status_code == 200
        assert ask(service.client, headers=bearer("anything")).status_code == 200
        assert service.client.post("/operator/reload").status_code == 401
        assert service.client.post("/operator/reload", headers=bearer(OPERATOR)).status_code == 200


def test_K6_too_many_items_are_429_until_the_bucket_is_filled_again(closed: Any) -> None:
    first = ask(closed.client, headers=bearer(SLOW))
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"items";q=1;w=2'
    refused = ask(closed.client, headers=bearer(SLOW))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert re.fullmatch(r'"items";r=0;t=[12]', refused.headers["ratelimit"])
    assert ask(closed.client, headers=bearer(USE)).status_code == 200  # others go on
    assert 'reco_rejections_total{reason="rate_limited"} 1.0' in closed.client.get("/metrics").text


def test_an_answer_tells_what_is_left_after_it(serve: Any) -> None:
    with serve(rate_limit=0.005, rate_burst_s=2000) as service:  # ten items, and no more for hours
        answers = [service.client.post("/embed/text", json={"texts": ["a bird"] * 4}) for _ in range(2)]
        lefts = [re.match(r'"items";r=(\d+);', answer.headers["ratelimit"]) for answer in answers]
    assert [left and left[1] for left in lefts] == ["6", "2"]


def test_K6_without_keys_an_address_has_a_bucket(serve: Any) -> None:
    with serve(rate_limit=0.5, rate_burst_s=4) as service:
        assert [ask(service.client).status_code for _ in range(3)] == [200, 200, 429]
        assert service.client.get("/readyz").status_code == 200


def left_of(answer: httpx.Response) -> int:
    found = re.match(r'"items";r=(\d+);', answer.headers["ratelimit"])
    assert found is not None, answer.headers
    return int(found[1])


def test_class_texts_that_are_encoded_are_items_and_kept_ones_are_not(
    serve: Any, photo_bytes: dict[str, bytes]
) -> None:
    image = base64.b64encode(photo_bytes["png"]).decode()
    body = {"images": [image, image], "labels": ["duck", "wader", "swift"], "templates": ["a {}", "a red {}"]}
    with serve(rate_limit=0.04, rate_burst_s=2500) as service:  # a hundred items, and one more in 25 s

        def classify(**changes: Any) -> httpx.Response:
            return service.client.post("/classify", json={**body, **changes})

        assert left_of(classify()) == 100 - 2 - 6
        assert left_of(classify()) == 92 - 2
        assert left_of(classify(labels=[f"bird {number}" for number in range(100)])) == 0  # as any large request
        refused = classify()
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")


def test_class_texts_are_refused_before_they_are_encoded() -> None:
    limiter, limits = Limiter(clock=Clock()), Limits(rate=10, burst=20)
    with limiter.admit("a", limits, lambda: 1), limiter.admit("a", limits, lambda: 1):
        limiter.charge("a", limits, 500)
        with pytest.raises(Problem, match="rate_limited") as refused:
            limiter.charge("a", limits, 500)
    assert refused.value.headers["Retry-After"] == "49"  # 482 items in debt, and one


def test_class_texts_that_come_to_nothing_are_paid_back() -> None:
    limiter, limits = Limiter(clock=Clock()), Limits(rate=10, burst=20)
    with limiter.admit("a", limits, lambda: 1):
        give_back = limiter.charge("a", limits, 500)
        assert limiter.headers("a", limits)["RateLimit"] == '"items";r=0;t=51'
        give_back(500)
    assert limiter.headers("a", limits)["RateLimit"] == '"items";r=19;t=1'


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_large_request_is_paid_for_before_the_next() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    limits = Limits(rate=10, burst=20)
    with limiter.admit("a", limits, lambda: 50):
        pass
    with pytest.raises(Problem, match="rate_limited") as refused, limiter.admit("a", limits, lambda: 1):
        pass
    assert refused.value.headers["Retry-After"] == "4"  # 30 items in debt, and one for the request: 3.1 s
    clock.now = 3.2
    with limiter.admit("a", limits, lambda: 1):
        pass


def test_what_was_sent_without_a_rate_is_no_debt_when_the_key_is_given_one() -> None:
    clock = Clock()
    limiter, limits = Limiter(clock=clock), Limits(rate=50, burst=500)
    with limiter.admit("a", Limits(), lambda: 640_000), limiter.admit("a", Limits(), lambda: 640_000):
        limiter.charge("a", Limits(), 5000)
    with limiter.admit("a", Limits(), lambda: 640_000), limiter.admit("a", limits, lambda: 200):
        pass  # the first came without a rate and ends after the key was given one
    assert limiter.headers("a", limits)["RateLimit"] == '"items";r=300;t=4'


def test_a_request_of_earlier_limits_leaves_the_debt_of_later_ones() -> None:
    limiter, before, after = Limiter(clock=Clock()), Limits(rate=1, burst=10), Limits(rate=2, burst=20)
    with limiter.admit("a", before, lambda: 5):
        with limiter.admit("a", after, lambda: 500):
            pass
        limiter.headers("a", before, owed=4)
        with pytest.raises(Problem, match="rate_limited"):
            limiter.charge("a", before, 100)
    with pytest.raises(Problem, match="rate_limited"), limiter.admit("a", after, lambda: 1):
        pass
    assert limiter.headers("a", after)["RateLimit"] == '"items";r=0;t=250'


def test_a_bucket_whose_limits_change_starts_anew() -> None:
    limiter, before, after = Limiter(clock=Clock()), Limits(rate=1, burst=10), Limits(rate=2, burst=20)
    with limiter.admit("a", before, lambda: 1000), limiter.admit("a", after, lambda: 5):
        pass
    assert limiter.headers("a", after)["RateLimit"] == '"items";r=15;t=3'
    with limiter.admit("a", Limits(rate=2, burst=20, concurrency=4), lambda: 5):  # the bucket is the same
        pass
    assert limiter.headers("a", after)["RateLimit"] == '"items";r=10;t=5'


def test_one_caller_may_have_so_many_requests_under_way() -> None:
    limiter, limits = Limiter(), Limits(concurrency=1)
    with limiter.admit("a", limits, lambda: 1):
        with pytest.raises(Problem, match="concurrency_limited"), limiter.admit("a", limits, lambda: 1):
            pass
        with limiter.admit("b", limits, lambda: 1):
            pass
    with limiter.admit("a", limits, lambda: 1):
        pass


def test_K7_callers_without_end_fill_no_memory() -> None:
    limiter, limits = Limiter(max_callers=1000), Limits(rate=1, burst=1)
    for number in range(2000):
        with limiter.admit(f"address {number}", limits, lambda: 1):
            pass
    gc.collect()
    tracemalloc.start()
    for number in range(100_000):
        with limiter.admit(f"address {number}", limits, lambda: 1):
            pass
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(limiter) == 1000
    assert grown < 1_000_000


def test_K7_where_every_known_caller_is_being_answered_one_more_is_let_in() -> None:
    limiter, limits = Limiter(max_callers=2), Limits(rate=1, burst=1)
    with limiter.admit("a", limits, lambda: 1), limiter.admit("b", limits, lambda: 1):
        with limiter.admit("c", limits, lambda: 1):
            assert len(limiter) == 2
        with pytest.raises(Problem, match="rate_limited"), limiter.admit("c", limits, lambda: 1):
            pass


def test_K13_no_key_is_ever_told(closed: Any, keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    ask(closed.client, headers=bearer(USE))
    ask(closed.client, headers=bearer(USE + "x"))
    told = caplog.text + closed.client.get("/metrics").text + closed.client.get("/readyz").text
    assert USE not in told
    assert USE not in keys_file.read_text()
    settings = Settings(model="m", memory="m", api_keys=USE)
    assert USE not in show_settings(settings) + repr(settings)


def test_the_log_names_the_key(closed: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ask(closed.client, headers=bearer(USE))
    closed.client.get("/nowhere")  # a line is written after its answer: the first is there when this one is
    assert any(getattr(record, "request_fields", {}).get("key") == "web" for record in caplog.records)


def test_A39_a_key_has_a_prefix_and_a_checksum() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"reco_[0-9A-Za-z]{49}", key) and is_intact(key) for key in keys)
    key = keys.pop()
    swapped = "B" if key[10] == "A" else "A"
    assert not any(is_intact(wrong) for wrong in (key[:-1], key + "0", key[:10] + swapped + key[11:], key[5:], ""))


@pytest.mark.parametrize(
    ("variable", "told"),
    [("", "no key"), ("# nothing", "no key"), ("short", "24 to 200"), (USE[:-1] + "!", "checksum"),
     ("web use", "expected"), ("web all " + USE, "scopes"), ("we/b use " + USE, "name"),
     (f"web use {USE} rate=-1", "limits"),
     (f"web use {USE} rate=1e-300", "limits"), (f"web use {USE} rate=5 rate=500", "rate is given twice"),
     (f"web use {USE}; web use {SLOW}", "name web"), (f"web use {USE}; ops operator {USE}", "web and ops are one")],
    ids=["empty", "comment", "short", "torn", "words", "scope", "name", "limit", "slow", "two limits", "twice",
         "one secret"],  # the keys are drawn anew
)  # fmt: skip
def test_a_bad_entry_is_refused_without_being_told(variable: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        read_keys(Settings(model="m", memory="m", api_keys=variable))
    assert USE[5:-2] not in str(refused.value)


def test_a_key_may_hold_a_hash_and_a_comment_stands_apart() -> None:
    key = "correct-horse-battery-staple#and-the-rest-of-it"
    ring = read_keys(Settings(model="m", memory="m", api_keys=f"# ours\n{key}  # of the shop"))
    assert ring.find(key.encode()) is not None and ring.find(key.partition("#")[0].encode()) is None


def test_a_keys_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(key_line("web", ["use"], USE), encoding="utf-8-sig")
    assert read_keys(Settings(model="m", memory="m", api_keys_file=str(path))).names == {"web"}


def test_a_keys_file_holds_hashes_only_and_never_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    settings = Settings(model="m", memory="m", api_keys_file=str(path))
    for content, told in (
        (None, "cannot be read: No such file or directory"),
        ("caf\udce9", "cannot be read: it is not UTF-8"),
        ("", "no key"),
        (f"web use {USE}", "never the key itself"),
        (key_line("web", ["use"], USE) + "\n" + "# who it is for\n" * 80_000, "has more than 1048576 characters"),
    ):
        if content is not None:
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(SettingsError, match=told):
            read_keys(settings)


def test_a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(key_line("web", ["use"], USE))
    access = Access(Settings(model="m", memory="m", api_keys_file=str(path)))
    path.write_text(key_line("web", ["use"], SLOW))
    access.reread()
    assert access.keys.find(SLOW.encode()) is not None
    assert access.keys.find(USE.encode()) is None
    path.write_text("")
    with pytest.raises(SettingsError):
        access.reread()
    assert access.keys.find(SLOW.encode()) is not None


def test_the_log_says_which_keys_came_and_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join([key_line("leaked", ["use"], USE), key_line("web", ["use"], SLOW)]))
    access = Access(Settings(model="m", memory="m", api_keys_file=str(path)))
    with caplog.at_level("INFO", "reco.keys"):
        access.reread()
        path.write_text("\n".join([key_line("web", ["use"], SLOW), key_line("admin", ["operator"], OPERATOR)]))
        access.reread()
    assert caplog.messages == ["keys read again: 2 (the same names)", "keys read again: 2 (new: admin; gone: leaked)"]


def test_the_operators_reload_takes_a_key_back_as_SIGHUP_does(serve: Any, tmp_path: Path) -> None:
    path, admin = tmp_path / "keys", key_line("admin", ["operator"], OPERATOR)
    path.write_text("\n".join([admin, key_line("leaked", ["use"], USE), key_line("web", ["use"], SLOW)]))
    with serve(engine=None, api_keys_file=str(path)) as service:

        def status(key: str) -> int:
            return int(service.client.get("/memory", headers={"Authorization": f"Bearer {key}"}).status_code)

        def reload() -> Any:
            return service.client.post("/operator/reload", headers={"Authorization": f"Bearer {OPERATOR}"}).json()

        assert (status(USE), status(SLOW)) == (200, 200)
        path.write_text("\n".join([admin, key_line("web", ["use"], SLOW)]))
        assert reload()["keys_read"] is True
        assert (status(USE), status(SLOW)) == (401, 200)
        path.write_text("")
        assert reload()["keys_read"] is False
        assert (status(USE), status(SLOW)) == (401, 200)


def test_reco_key_new_makes_one_that_works(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    runner = CliRunner()
    made = runner.invoke(command_line, ["key", "new", "web", "--file", str(path)])
    assert made.exit_code == 0, made.output
    key = made.stdout.strip().splitlines()[-1]
    assert "every request" not in made.stderr
    closing = runner.invoke(command_line, ["key", "new", "admin", "--operator", "--file", str(path)])
    assert "every request to the service needs a key" in closing.stderr
    assert path.stat().st_mode & 0o077 == 0
    ring = read_keys(Settings(model="m", memory="m", api_keys_file=str(path)))
    found = ring.find(key.encode())
    assert found is not None
    assert (found.name, found.scopes) == ("web", {"use"})
    assert ring.opens("operator")
    both = runner.invoke(command_line, ["key", "new", "two", "--operator", "--only-operator", "--file", str(path)])
    assert (both.exit_code, "give one of them" in both.output) == (2, True)
    again = runner.invoke(command_line, ["key", "new", "web", "--file", str(path)])
    assert again.exit_code == 1


def removed(name: str, path: Path) -> Any:
    return CliRunner().invoke(command_line, ["key", "remove", name, "--file", str(path)])


@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("\ufeff", "\n"), (" \t", "\r\n")])
def test_reco_key_remove_takes_a_key_back_in_the_file_that_a_container_has(tmp_path: Path, mark: str, end: str) -> None:
    """A container has the file, not its name, so the one that was opened before has to change."""
    path = tmp_path / "keys"
    lines = [f"{mark}{key_line('a', ['use'], USE)} rate=5", "# web", key_line("web", ["use"], SLOW)]
    lines.append(f"{key_line('admin', ['operator'], OPERATOR)} # é")
    path.write_text(end.join(lines), encoding="utf-8", newline="")
    os.link(path, tmp_path / "mounted")
    settings = Settings(model="m", memory="m", api_keys_file=str(tmp_path / "mounted"))
    for name, left in (("a", {"web", "admin"}), ("web", {"admin"})):
        done = removed(name, path)
        assert done.exit_code == 0, done.output
        assert "SIGHUP" in done.stderr
        assert read_keys(settings).names == left
    assert read_keys(settings).find(OPERATOR.encode()) is not None
    told = path.read_text(encoding="utf-8")
    assert hashlib.sha256(USE.encode()).hexdigest() not in told
    assert "# a was taken back" in told
    before = path.read_bytes()
    assert (removed("admin", path).exit_code, removed("web", path).exit_code) == (1, 1)
    assert "the only key" in removed("admin", path).stderr
    assert "no key named" in removed("web", path).stderr
    assert "cannot be changed" in removed("web", tmp_path / "nowhere").stderr
    assert path.read_bytes() == before


def test_reco_key_remove_killed_at_any_write_harms_no_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "keys", os.pwrite
    lines = [key_line("first", ["use"], SLOW), key_line("web", ["use"], USE), key_line("admin", ["operator"], OPERATOR)]

    def killed(file: int, data: bytes, place: int) -> int:
        nonlocal left
        done = write(file, data[:left], place) if left else 0
        left -= done
        if done < len(data):
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(os, "pwrite", killed)
    for written in range(len(lines[1]) + 1):
        path.write_text("\n".join(lines) + "\n")
        left = written
        assert removed("web", path).exit_code != 0
        names = read_keys(Settings(model="m", memory="m", api_keys_file=str(path))).names
        assert names == {"first", "admin"} | ({"web"} if written == 0 else set())


@pytest.mark.parametrize(
    ("port", "path", "status"),
    [(8000, "/livez", 200), (9000, "/livez", 200), (8000, "/metrics", 404), (9000, "/metrics", 200), (8000, "/", 200),
     (9000, "/", 404), (8000, "/memory", 503), (9000, "/memory", 404), (8000, "/operator/reload", 404),
     (9000, "/operator/reload", 405)],
)  # fmt: skip
def test_T22_K5_an_operators_port_has_the_operators_routes_and_only_them(
    make_settings: Any, port: int, path: str, status: int
) -> None:
    """The app is not started, so what it would answer from is 503; which port may ask for it is told before that."""
    settings = make_settings(port=8000, operator_port=9000, api_keys=f"admin operator {OPERATOR}")

    async def ask_by_port() -> int:
        transport = httpx.ASGITransport(create_app(settings))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            return (await client.get(path, headers=bearer(OPERATOR))).status_code

    assert asyncio.run(ask_by_port()) == status
