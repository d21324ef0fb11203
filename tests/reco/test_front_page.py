"""`reco --help` and what stands beside it: every command is there, with its first sentence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from reco.cli import app


def test_the_front_page_shows_every_command_with_its_first_sentence() -> None:
    page = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    lines = [line.strip("│ ").rstrip() for line in page.splitlines()]
    names = [*(str(one.name) for one in app.registered_commands), *(str(one.name) for one in app.registered_groups)]
    assert {"demo", "build", "memory", "key"} <= set(names)
    for name in names:
        told = [line for line in lines if line.startswith(name + " ") and line.endswith(".")]
        assert len(told) == 1, (name, told)


def test_no_command_at_all_is_answered_by_the_page_and_exit_code_2() -> None:
    given = CliRunner().invoke(app, [])
    assert given.exit_code == 2
    assert "pairs to a memory" in given.output


def test_the_version_is_that_of_the_distribution() -> None:
    stated = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "reco", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert f'version = "{told.removeprefix("reco ").strip()}"' in stated


def test_quiet_leaves_the_answer_and_what_went_wrong(tmp_path: Path) -> None:
    def reco(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reco.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    rows = np.eye(4, dtype=np.float32)
    np.savez(tmp_path / "cache.npz", image=rows, text=rows, caption=np.array(list("abcd")))
    build = ("build", "--embeddings", str(tmp_path / "cache.npz"), "--encoder-name", "mine", "-o")
    loud, silent = reco(*build, str(tmp_path / "loud")), reco("--quiet", *build, str(tmp_path / "silent"))
    assert loud.returncode == silent.returncode == 0, loud.stderr + silent.stderr
    assert "rejected" in loud.stderr
    assert silent.stderr == ""
    assert reco("-q", "memory", "info", str(tmp_path / "silent")).stdout
    wrong = reco("-q", "memory", "info", str(tmp_path / "nowhere"))
    assert wrong.returncode != 0
    assert "nowhere" in wrong.stderr
