"""The front door: help that teaches, completion, and Ctrl-C as a sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reco.help_text import flowing

ENVIRONMENT = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}


def reco(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "reco.cli", *arguments],
        env=ENVIRONMENT | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_help_gives_the_order_of_steps() -> None:
    told = reco("--help")
    places = [told.index(f"reco {verb}") for verb in ("demo", "build", "train", "eval", "serve")]
    assert places == sorted(places)
    assert "reco doctor" in told


@pytest.mark.parametrize("command", ["build", "train", "eval", "memory push"])
def test_no_option_is_cut_on_a_terminal_of_80_columns(command: str) -> None:
    told = reco(*command.split(), "--help", COLUMNS="80")
    assert "--help" in told
    assert "…" not in told


def test_paragraphs_flow_and_examples_stay() -> None:
    assert flowing("One\ntwo.\n\n    an example\n    another") == "One two.\n\n    an example\n    another"


def test_completion_is_there() -> None:
    told = reco(_RECO_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="reco me")
    assert "memory" in told


def test_ctrl_c_is_a_sentence(tmp_path: Path) -> None:
    process = drawing(tmp_path / "demo")
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the drawing processes too
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "reco: stopped." in told
    assert "Traceback" not in told


def test_a_killed_demo_leaves_no_drawing_process(tmp_path: Path) -> None:
    process = drawing(tmp_path / "demo")
    while not list((tmp_path / "demo").rglob("*.png")):  # they are at work
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def drawing(directory: Path) -> subprocess.Popen[str]:
    """A demo in a process group of its own that has begun to draw, and hears Ctrl-C as in a terminal.

    The background job of a script ignores the signal, and so would what it starts.
    """
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "reco.cli", "demo", "-d", str(directory), "--no-serve"],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, own)
    while "Draw a field guide" not in process.stderr.readline():
        assert process.poll() is None
    return process
