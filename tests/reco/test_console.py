"""Progress bars on terminals that are wide and narrow: it is the words that are cut, never the numbers."""

import io

import pytest
from rich.console import Console

import reco.console
from reco.console import Bar


@pytest.mark.parametrize("width", [80, 160])
def test_count_rate_and_time_are_whole_whatever_the_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(reco.console, "console", terminal)
    monkeypatch.setattr("reco.rate_column._LEAST_S", 0.0)
    bar = Bar("encoding")
    bar.update(38_912, 100_000, "1,082 not stored, encoder busy 74%, waits decode 4% disk 22%")
    bar.update(100_000, 100_000, "1,082 not stored, encoder busy 74%, waits decode 4% disk 22%")
    lines = out.getvalue().replace("\r", "\n").splitlines()
    last = next(line for line in reversed(lines) if "100000/100000" in line)
    assert "/s" in last, "a bar that was over at once has a rate too"
    assert "0:00:0" in last
    assert "left" not in last, "what is over tells how long it took, and no second time beside that"
    assert "encoding" in last
    assert ("disk 22%" in last) == (width == 160)
    assert all(len(line) <= width + 20 for line in lines)  # and the terminal's own codes
