"""How it went: what commands say of inputs that a service refused."""

from collections import Counter
from pathlib import Path

import pytest

from reco.asking import asking, tell_failures
from reco.console import console
from reco.operate import _HINTS
from reco_client import NotAuthorised, Overloaded, Retries
from reco_client.errors import RecoError

NOWHERE = "http://127.0.0.1:9"


def asked(on_retry_of: "list[RecoError]") -> None:
    """What a client tells of failures before it gives up."""
    with asking(NOWHERE, None) as client:
        assert client._on_retry is not None
        for attempt, failure in enumerate(on_retry_of, start=1):
            client._on_retry(failure, attempt, 0.25)


@pytest.mark.parametrize("quiet", [False, True])
def test_that_nobody_answers_is_said_at_once_and_once(
    quiet: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", quiet)
    monkeypatch.setattr("reco_client.caller.Retries", lambda: Retries(attempts=3, first_s=0.01))
    with pytest.raises(SystemExit), asking(NOWHERE, None) as client:
        client.memory()
    *first, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"reco: no answer from {NOWHERE}") and "`reco serve`" in last
    assert len(first) == (0 if quiet else 1), first
    if first:
        assert f"no answer from {NOWHERE}" in first[0] and "asking again, for up to 8 s" in first[0]


def test_what_begins_to_serve_is_said_to_and_a_full_service_is_asked_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked([Overloaded("queue_full", 503, "Too many items are waiting.")])
    assert not capsys.readouterr().err
    asked([Overloaded("not_ready", 503, "The service is not ready.", told={"reason": "starting"})])
    assert "starting" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["unauthorized", "not_found"])
def test_what_to_do_here_comes_before_what_the_service_says(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), asking(NOWHERE, None, hints=_HINTS):
        raise NotAuthorised(code, 401, "Authorization: Bearer KEY.")
    told = capsys.readouterr().err
    assert 0 < told.index("--key-file" if code == "unauthorized" else "reco key new") < told.index("Bearer KEY")


def test_a_key_that_was_sent_is_told_from_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECO_API_KEY", raising=False)
    (tmp_path / "wrong.key").write_text("wrong")
    for key_file, expected in ((None, "takes a key"), (tmp_path / "wrong.key", "does not know the key")):
        with pytest.raises(SystemExit), asking(NOWHERE, key_file):
            raise NotAuthorised("unauthorized", 401, "Authorization: Bearer KEY.")
        assert expected in capsys.readouterr().err


def test_an_input_that_failed_is_shown_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tell_failures(Counter(text_too_long=1), "kiwi " * 5000)
    told = capsys.readouterr().err
    assert ": text_too_long" in told and "…" in told
    assert len(told) < 200


def test_what_moves_a_terminals_cursor_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tell_failures(Counter(image_empty=1), "a\x1b[2J.jpg")
    assert "\x1b[2J" not in capsys.readouterr().err
