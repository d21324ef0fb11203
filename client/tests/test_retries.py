"""When the client tries again and when it gives up, against a real server that misbehaves on purpose."""

import asyncio
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from scripted_service import QUICK, Reply, both, call, npy, problem

from reco_client import (
    AnswerInvalid,
    AsyncClient,
    Client,
    ConnectionFailed,
    NotAuthorised,
    Overloaded,
    RequestRefused,
    Retries,
    ServiceFailed,
)
from reco_client.asks import ask_label_set


@both
@pytest.mark.parametrize(
    "failure", [problem(503, "queue_full"), problem(429, "rate"), problem(504, "deadline_exceeded"), Reply(cut=True)]
)
def test_what_passes_is_waited_for(scripted: Any, kind: str, failure: Reply) -> None:
    server = scripted(lambda number: failure if number < 3 else npy())
    found = call(kind, server.url, retries=QUICK)
    assert (found.vectors.shape, found.memory_version, len(server.times)) == ((1, 4), 3, 4)


@both
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_a_balancer_says_while_no_service_answers_is_waited_for(scripted: Any, kind: str, status: int) -> None:
    server = scripted(lambda number: Reply(status, b"<html>Bad gateway</html>") if number < 2 else npy())
    found = call(kind, server.url, retries=QUICK)
    assert (found.vectors.shape, len(server.times)) == ((1, 4), 3)
    server = scripted(lambda number: Reply(status, b"<html>Bad gateway</html>"))
    with pytest.raises(ConnectionFailed, match=f"HTTP {status} from .*balancer"):
        call(kind, server.url, retries=Retries(attempts=2, first_s=0.01))


@both
def test_a_service_that_is_slow_is_not_told_as_one_that_is_away(scripted: Any, kind: str) -> None:
    slow = scripted(lambda number: replace(npy(1), delay_s=0.5))
    with pytest.raises(ConnectionFailed, match=r"timed out|Timeout") as failed:
        call(kind, slow.url, timeout_s=0.1, retries=Retries(attempts=1))
    assert "timeout_s or deadline_s too short?" in str(failed.value)
    with pytest.raises(ConnectionFailed, match="Is the service running"):
        call(kind, "http://127.0.0.1:9", retries=Retries(attempts=1))


@both
def test_a_balancers_retry_after_is_obeyed_and_what_may_have_arrived_is_not_repeated(scripted: Any, kind: str) -> None:
    gone = Reply(503, b"<html>", {"Retry-After": "0.4"})
    server = scripted(lambda number: npy() if number else gone)
    call(kind, server.url, retries=QUICK)
    assert 0.4 <= server.times[1] - server.times[0] < 1.5
    server = scripted(lambda number: Reply(502, b"<html>"))
    with Client(server.url, retries=QUICK) as client, pytest.raises(ConnectionFailed):
        client.add_pairs([b"x"], name="puffin")
    assert len(server.times) == 1


@both
def test_retry_after_is_obeyed(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy() if number else problem(503, "queue_full", retry_after="0.4"))
    call(kind, server.url, retries=QUICK)
    assert 0.4 <= server.times[1] - server.times[0] < 1.5


@both
def test_asked_for_too_much_patience_it_gives_up(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(429, "rate_limited", retry_after="3600"))
    with pytest.raises(Overloaded, match=r"It is so\. It asks to come back in 3600 s\.") as failed:
        call(kind, server.url)
    assert (failed.value.retry_after_s, len(server.times)) == (3600, 1)


@both
def test_after_the_last_attempt_the_error_is_told(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(503, "not_ready", reason="starting"))
    with pytest.raises(Overloaded, match=r"not_ready \(503\): It is so\. reason: starting\. \[request r1\]") as failed:
        call(kind, server.url, retries=Retries(attempts=3, first_s=0.01))
    assert (failed.value.told, failed.value.request_id, len(server.times)) == ({"reason": "starting"}, "r1", 3)


@both
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(422, "text_empty"), RequestRefused),
        (problem(413, "body_too_large"), RequestRefused),
        (problem(401, "key_missing"), NotAuthorised),
        (problem(403, "scope_missing"), NotAuthorised),
        (problem(500, "internal_error"), ServiceFailed),
        (Reply(500, b"<html>Oops</html>"), AnswerInvalid),
        (Reply(404, {"detail": "Not Found"}), AnswerInvalid),
        (Reply(200, b"<html>"), AnswerInvalid),
    ],
)
def test_what_waiting_cannot_cure_is_told_at_once(scripted: Any, kind: str, reply: Reply, error: type) -> None:
    server = scripted(lambda number: reply)
    with pytest.raises(error):
        call(kind, server.url, retries=QUICK)
    assert len(server.times) == 1


@both
def test_nobody_there(kind: str) -> None:
    started, told = time.monotonic(), list[tuple[Any, ...]]()
    retries = Retries(attempts=3, first_s=0.01)
    with pytest.raises(ConnectionFailed, match=r"no answer from http://127\.0\.0\.1:9") as failed:
        call(kind, "http://127.0.0.1:9", retries=retries, on_retry=lambda *told_of: told.append(told_of))
    assert time.monotonic() - started < 5
    assert [attempt for _, attempt, _ in told] == [1, 2], "before each wait, and not at the end"
    assert {str(failure) for failure, _, _ in told} == {str(failed.value)}
    assert sum(wait_s for _, _, wait_s in told) <= retries.in_all_s == pytest.approx(0.03)


@both
def test_a_slow_service_is_a_failed_connection(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: Reply(delay_s=0.5))
    with pytest.raises(ConnectionFailed):
        call(kind, server.url, timeout_s=0.1, retries=Retries(attempts=1))


@both
def test_a_connection_that_is_cut_says_so(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: Reply(cut=True))
    with pytest.raises(ConnectionFailed, match=r"no answer from http://[\d.:]+: \w.+[^.]\. Is the service running"):
        call(kind, server.url, retries=Retries(attempts=1))


def test_a_failure_without_words_is_told_by_its_name() -> None:
    assert ": ReadError. Is" in str(ConnectionFailed.of(httpx.ReadError(""), httpx.URL("http://host")))


@both
def test_a_deadline_ends_attempts_and_waits(scripted: Any, kind: str) -> None:
    full = scripted(lambda number: problem(503, "queue_full", retry_after="0.2"))
    started = time.monotonic()
    with pytest.raises(Overloaded):
        call(kind, full.url, deadline_s=0.5, retries=Retries(attempts=99, first_s=0.01))
    assert time.monotonic() - started < 1.5
    assert len(full.times) in (1, 2, 3), "no wait is begun that outlasts it"
    silent = scripted(lambda number: Reply(delay_s=2))
    started = time.monotonic()
    with pytest.raises(ConnectionFailed):
        call(kind, silent.url, deadline_s=0.3)
    assert time.monotonic() - started < 1.5


@both
def test_an_answer_that_trickles_is_given_up_at_the_deadline(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: replace(npy(1), trickle_s=0.2))
    assert call(kind, server.url, deadline_s=20).vectors.shape == (1, 4)
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match="not whole"):
        call(kind, server.url, deadline_s=0.5, retries=Retries(attempts=1))
    assert time.monotonic() - started < 1.2


def test_threads_that_share_a_client_wait_for_each_other_within_their_deadlines(scripted: Any) -> None:
    server = scripted(lambda number: replace(npy(1), delay_s=0.5))

    def ask(_: int) -> float:
        started = time.monotonic()
        with suppress(ConnectionFailed):
            client.embed_texts("a")
        return time.monotonic() - started

    with Client(server.url, in_flight=1, deadline_s=0.7, retries=Retries(attempts=1)) as client:
        client.embed_texts("a")
        with ThreadPoolExecutor(4) as pool:
            waited = list(pool.map(ask, range(4)))
    assert max(waited) < 1.1, "each new wait had begun with what was left anew"


@both
def test_a_deadline_that_is_kept_changes_nothing(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy() if number else problem(503, "queue_full"))
    assert call(kind, server.url, deadline_s=30, retries=QUICK).vectors.shape == (1, 4)


def test_waits_double_and_never_fall_in_step() -> None:
    retries, failure = Retries(attempts=9, first_s=1, longest_s=4), ConnectionFailed()
    for attempt, whole in zip(range(1, 9), (1, 2, 4, 4, 4, 4, 4, 4), strict=True):
        waits = [retries.wait_s(attempt, failure) for _ in range(50)]
        assert all(wait is not None and whole / 2 <= wait <= whole for wait in waits)
        assert len(set(waits)) > 40
    assert retries.wait_s(9, failure) is None


@both
def test_a_stream_is_not_given_up_while_anything_of_it_is_answered(scripted: Any, kind: str) -> None:
    """A slow service answers one of five requests: what it is full of is this very stream."""
    server = scripted(lambda number: npy() if number % 5 == 4 else problem(503, "queue_full", retry_after="0.02"))
    retries = Retries(attempts=8, first_s=0.02, longest_s=0.04)
    options = {"texts_per_request": 1, "in_flight": 8, "retries": retries}
    texts = [str(number) for number in range(40)]
    if kind == "sync":
        with Client(server.url, **options) as client:
            found = client.embed_texts(texts)
    else:

        async def ask() -> Any:
            async with AsyncClient(server.url, **options) as client:
                return await client.embed_texts(texts)

        found = asyncio.run(ask())
    assert found.vectors.shape == (40, 4)
    assert len(server.times) == 200


@both
def test_an_error_can_be_sent_to_another_process(scripted: Any, kind: str) -> None:
    errors = [{"pointer": "/texts/0", "code": "text_empty", "detail": "It is empty."}]
    server = scripted(lambda number: problem(422, "text_empty", errors=errors, limit=7))
    with pytest.raises(RequestRefused) as failed:
        call(kind, server.url)
    again = pickle.loads(pickle.dumps(failed.value))
    assert type(again) is RequestRefused and str(again) == str(failed.value)
    assert (again.code, again.status, again.items, again.told) == (
        *("text_empty", 422),
        *(failed.value.items, failed.value.told),
    )


def test_what_may_have_arrived_is_not_repeated_where_that_would_matter() -> None:
    assert Retries().wait_s(1, ConnectionFailed(), repeatable=False) is None
    assert Retries().wait_s(1, Overloaded("queue_full", 503, ""), repeatable=False) is not None
    assert not ask_label_set("DELETE", "birds").repeatable  # the second would be told that there is none
    assert ask_label_set("GET", "birds").repeatable


@both
def test_inputs_that_are_too_much_together_are_named_and_what_makes_requests_smaller(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(413, "body_too_large") if number else npy(2))

    async def ask() -> None:
        async with AsyncClient(server.url, texts_per_request=2, in_flight=1) as client:
            await client.embed_texts(iter("abcd"))

    with pytest.raises(RequestRefused, match=r"Inputs 2 to 3 are too much .* \(bytes_per_request") as it:
        if kind == "async":
            asyncio.run(ask())
        with Client(server.url, texts_per_request=2, in_flight=1) as client:
            client.embed_texts(iter("abcd"))
    assert it.value.items == ()
