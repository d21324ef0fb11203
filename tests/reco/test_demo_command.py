"""What `reco demo` says at its end, and how it counts its steps."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import story
from memory.errors import WriteFailed
from reco import demo


@pytest.mark.parametrize("serves", [True, False])
def test_what_nobody_serves_is_told_with_what_serves_it(
    serves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, served = tmp_path / "my demo", list[dict[str, str]]()
    root.mkdir()
    parts = {name: root / name for name in ("model", "memory", "fusion", "samples")}
    monkeypatch.setattr("demo.story.tell", lambda *_, **__: SimpleNamespace(**parts, rows=[]))
    monkeypatch.setattr("demo.quiz.quiz_question", lambda _: (root / "bird.png", "wren", ["wren", "tit"]))
    monkeypatch.setattr(demo, "_serve", lambda directory, port, settings: served.append(settings))
    monkeypatch.setattr(demo, "_refuse_early", lambda *_: None)
    demo.demo(root, serve=serves, table=False, port=8123)
    told = capsys.readouterr().err
    settings = dict(line.split("=", 1) for line in (root / "serve.env").read_text().splitlines())
    assert settings == {f"RECO_{name.upper()}": str(path) for name, path in parts.items()}
    assert "pen http://127.0.0.1:8123/" in told
    if serves:
        assert served == [{name: str(path) for name, path in parts.items()}]
        assert "serve.env" not in told
        return
    assert not served
    assert str(root / "serve.env") in told
    command = told.partition("RECO_SAMPLES")[2].partition("\n\n")[0].replace("\\\n", " ")
    words = shlex.split(f"RECO_SAMPLES{command}")
    assert words[:4] == [f"RECO_SAMPLES={parts['samples']}", "reco", "serve", "--port"]
    assert words[4:] == [
        "8123",
        *(word for name in ("model", "memory", "fusion") for word in (f"--{name}", str(parts[name]))),
    ]


@pytest.mark.parametrize("table", [True, False])
def test_the_mark_of_a_complete_demo_is_there_whole_or_not_at_all(
    table: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    parts = {name: tmp_path / name for name in ("model", "memory", "fusion", "samples")}
    monkeypatch.setattr("demo.story.tell", lambda *_, **__: SimpleNamespace(**parts, rows=[]))
    monkeypatch.setattr(demo, "_refuse_early", lambda *_: None)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteFailed, match="No space left"):
        demo.demo(tmp_path, serve=False, table=table)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("table", [True, False])
def test_steps_are_counted_through(table: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_world", "tiny_clip_directory", "_build", "_fusion", "write_evaluation", "write_samples"):
        monkeypatch.setattr(story, name, lambda *_, **__: None)
    monkeypatch.setattr(story, "measure", lambda *_, **__: [])
    thing: Any = SimpleNamespace(fingerprint=SimpleNamespace(record=lambda: {}))
    monkeypatch.setattr(story, "Encoder", SimpleNamespace(open=lambda _: thing))
    monkeypatch.setattr(story, "Memory", SimpleNamespace(open=lambda *_, **__: thing))
    for name in ("Quiz", "Lessons"):
        monkeypatch.setattr(story, name, lambda *_: None)
    steps = list[str]()
    narrator: Any = SimpleNamespace(step=steps.append, drawn=None, building=None, controlled=None)
    story.tell(tmp_path, (0,), narrator, table=table)
    assert [step[0] for step in steps] == [str(number) for number in range(1, 7 if table else 6)]
