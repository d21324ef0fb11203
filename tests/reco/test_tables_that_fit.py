"""Tables on a terminal of 80 columns: each row whole, nothing folded in the middle of a number, nothing lost."""

import io
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from evaluation.ablations.figures import Cell, Row, Table
from evaluation.figures import Figure, Section
from evaluation.refinement import SCORINGS
from reco.ablations import _table as ablations_table
from reco.classify import _show
from reco.cli import app
from reco.eval_tables import _table, _title, print_result
from reco_client.results import Classification, Classifications, ItemError, LabelScore, Scores

SECTIONS = {
    "zero_shot": (("top-1", "mean per class", "top-1 without copies"), "top-1"),
    "entities": (("seen", "unseen", "harmonic mean", "harmonic mean without copies"), "harmonic mean"),
    "image_to_text": (("R@1", "R@5", "R@10", "median rank", "R@1 without copies"), "R@1"),
}


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("seeds", [(88.8,), (85.1, 92.5)])
def test_an_evaluation(name: str, seeds: tuple[float, ...]) -> None:
    measures, headline = SECTIONS[name]
    figure = Figure(seeds, 10.0, (10.1, 13.4))
    told = {one: {scoring: Figure(seeds) if scoring == "none" else figure for scoring in SCORINGS} for one in measures}
    chance = {one: 1.25 for one in measures if one != "median rank"}
    section = Section(name, name, told, headline, asked="1,234 images", chance=chance)
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(_table(section, narrow=True, query_only=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    with_interval = [one for one in measures if one.removesuffix(" without copies") == headline]
    assert out.getvalue().count("[+10.1, +13.4]") == (len(SCORINGS) - 1) * len(with_interval)
    row = next(line.split() for line in lines if line.strip().startswith("chance"))
    assert row[1:] == ["1.2"] * len(chance)
    assert "1,234 images" in _title(section, len(seeds))


@pytest.mark.parametrize("columns", [("1000-way", "400-way"), ("known", "unseen", "unseen genera", "all")])
def test_an_ablation(columns: tuple[str, ...]) -> None:
    """The rows' names fold, the intervals do not."""
    cell = Cell((85.86,), (72.66,), (-69.84, 75.52))
    row = Row("RECO, copies of the queries left out", dict.fromkeys(columns, cell))
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(ablations_table(Table("controls", "x", (row,)), narrow=True))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "…" not in out.getvalue()
    assert out.getvalue().count("[-69.8, +75.5]") == out.getvalue().count("85.9 +72.66") == len(columns)


@pytest.mark.parametrize(("left", "saw_copies"), [(True, False), (False, False), (True, True)])
def test_a_column_without_copies_is_trusted_only_where_there_is_one_to_trust(
    left: bool, saw_copies: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every item of the memory is a copy nothing is left to measure; a fusion trained on copies keeps them."""
    measures = ("top-1", "top-1 without copies") if left else ("top-1",)
    told = {one: {scoring: Figure((50.0,)) for scoring in SCORINGS} for one in measures}
    section = Section("zero_shot", "zero_shot", told, "top-1", asked="5 images", chance={})
    task = SimpleNamespace(name="birds", kind="zero-shot", texts=[1, 2], task=SimpleNamespace(images=[1]), rejected={})
    copies = SimpleNamespace(cosine=0.985, item_ids=[1, 2], images=1)
    parts = {"task": task, "duplicates": copies, "sections": [section], "notes": [], "k": 5, "saw_copies": saw_copies}
    result: Any = SimpleNamespace(**parts)
    print_result(result, 1)
    said = " ".join(capsys.readouterr().err.split())
    assert "memory items 2, of 1 of the task's images" in said
    assert ("trust the column without copies" in said) == (left and not saw_copies)


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, compare: bool) -> str:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    best = [LabelScore(f"a rather long label [{number}]", number, 0.5 / (number + 1), 0.3) for number in range(3)]
    scores = Scores(best[0].label, 0, top=best)
    answers = [
        (Path("photos/of/many/things/that/lie/deep/in/folders/IMG_0001.jpg"), Classification(0, scores, scores)),
        (Path("cut.jpg"), Classification(1, error=ItemError(1, "image_truncated", "It ends early."))),
    ]
    _show(iter(answers), [path for path, _ in answers], compare=compare)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("compare", [False, True])
def test_classes(compare: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(80, monkeypatch, capsys, compare=compare).splitlines()
    assert len(lines) == 3, "a head and a line for each image"
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "IMG_0001.jpg" in lines[1]
    assert "a rather long label" in lines[1]
    assert lines[1].count("50.0%") == 1 + compare
    assert "image_truncated" in lines[2]
    assert ("without the memory" in lines[0]) == compare


def test_the_next_best_are_there_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(200, monkeypatch, capsys, compare=True).splitlines()
    assert "a rather long label [1] 25.0%, a rather long label [2] 16.7%" in lines[1]


@pytest.mark.parametrize("compare", [False, True])
def test_many_images_are_one_table(
    compare: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def answer(number: int) -> tuple[Path, Classification]:
        label = "a long label" if number == 0 else "kiwi"  # later rows alone would make narrower columns
        best = [LabelScore(label, 0, 0.5, 0.3), LabelScore("plum", 1, 0.25, 0.3)]
        scores = Scores(label, 0, top=best)
        return Path(f"{number}.jpg"), Classification(number, scores, scores)

    answers = [answer(number) for number in range(130)]
    _show(iter(answers), [path for path, _ in answers], compare=compare)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert len(lines) == 131, "one head, and a line for each image"
    assert len({line.index("plum 25.0%") for line in lines[1:]}) == 1
    assert lines[0].index("next best") == lines[-1].index("plum 25.0%")


@pytest.mark.parametrize(("weight", "said"), [(0.0, True), (0.4, False)])
def test_labels_without_weight_are_told(
    weight: float, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.jpg").write_bytes(b"")
    scores = Scores("a", 0, top=[LabelScore("a", 0, 0.9, 0.3)])
    trust = {"text": weight, "image": weight / 10, "unknown_labels": 1.0}
    answer = Classifications([Classification(0, scores)], "space", 1, "model", "both", trust)

    class Client:
        def stream_classify(self, *_: object, **__: object) -> list[Classifications]:
            return [answer]

    monkeypatch.setattr("reco.classify.asking", lambda *_, **__: nullcontext(Client()))
    done = CliRunner().invoke(app, ["classify", str(tmp_path / "one.jpg"), "--labels", "a,b"])
    assert done.exit_code == 0, done.output
    assert ("no weight" in done.stderr and "unknown_labels 1.00" in done.stderr) == said
