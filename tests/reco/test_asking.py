"""How it went: what commands say of inputs that a service refused."""

from collections import Counter

import pytest

from reco.asking import tell_failures


def test_an_input_that_failed_is_shown_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tell_failures(Counter(text_too_long=1), "kiwi " * 5000)
    told = capsys.readouterr().err
    assert "1 text_too_long" in told and "…" in told
    assert len(told) < 200


def test_what_moves_a_terminals_cursor_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tell_failures(Counter(image_empty=1), "a\x1b[2J.jpg")
    assert "\x1b[2J" not in capsys.readouterr().err
