"""Lines of a pipe: which are there, and which are to come."""

import io
import os
from collections.abc import Iterator

import pytest

from reco.standard_input import StandardInput, bursts


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.RawIOBase]:
    """What writes to standard input."""
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as stdin, os.fdopen(write, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        yield writer


def test_what_is_there_is_one_burst_and_what_comes_later_another(pipe: io.RawIOBase) -> None:
    text = "Grünfink".encode()
    pipe.write(b"\xef\xbb\xbfa\r\n\n  b \n" + text[:3])  # begins with a mark, ends within a character
    lines = StandardInput()
    runs = bursts(lines, lines.waits)
    assert list(next(runs)) == ["a", "b"]
    assert lines.waits()
    pipe.write(text[3:])
    assert lines.waits(), "the line may go on"
    pipe.write(b"\n\n")
    assert not lines.waits()
    assert list(next(runs)) == ["Grünfink"]
    pipe.write(b"".join(b"bird %d\n" % number for number in range(5000)) + b"the last")
    pipe.close()
    assert [len(list(run)) for run in runs] == [5001], "a fast input is not cut"
    assert not lines.waits()


def test_what_is_no_text_is_a_wrong_command(pipe: io.RawIOBase, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.write(b"caf\xe9\n")
    with pytest.raises(SystemExit) as end:
        next(StandardInput())
    assert end.value.code == 2
    assert "standard input: not UTF-8" in capsys.readouterr().err


def test_a_closed_standard_input_is_a_wrong_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as `<&-` has it
    with pytest.raises(SystemExit) as end:
        StandardInput()
    assert end.value.code == 2
    assert "standard input is closed" in capsys.readouterr().err
