"""`torchrun -m reco.cli train`: two processes train as one does, and a killed one costs an epoch at most."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memory import Memory
from models.checkpoint_files import read_config

# Of two processes the second comes late to the state; or the run ends where its checkpoint would be written.
LATE = """
import os, time
import models.checkpoint
from models.training.gradients import loop
from reco.cli import app
take = loop.load_state
if os.environ.get("RANK") == "1":
    loop.load_state = lambda path: time.sleep(2) or take(path)
if os.environ.get("BROKEN"):
    models.checkpoint.save_fusion = lambda *_: os._exit(3)
app()
"""
TRAIN = ["--design", "faithful", "--k", "5", "--batch-size", "48", "--device", "cpu", "--set", "miss=0.2"]


def command(
    memory: Memory, output: Path, epochs: int, *, processes: int, program: Sequence[str] = ("-m", "reco.cli")
) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] * (processes > 1)
    asked = ["train", str(memory.path), "-o", str(output), "--epochs", str(epochs), *TRAIN]
    return [sys.executable, *launcher, *program, *asked]


def run(asked: list[str]) -> str:
    done = subprocess.run(asked, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stderr


def curve(output: Path) -> np.ndarray:
    """(epochs, 2): training and validation loss."""
    return np.array(read_config(output)["trained"]["losses"])


def workers(launcher: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


@pytest.mark.timeout(600)  # four starts of a process that loads torch
def test_two_processes_one_of_them_killed_have_the_loss_curve_of_one(named_memory: Memory, tmp_path: Path) -> None:
    epochs = 6
    run(command(named_memory, tmp_path / "one", epochs, processes=1))
    asked = command(named_memory, tmp_path / "two", epochs, processes=2)
    with subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        end = time.monotonic() + 120
        while not list((tmp_path / "two" / "work").glob("training-*.safetensors")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(workers(launcher.pid)[-1], signal.SIGKILL)
        assert launcher.wait(60) != 0
    assert not (tmp_path / "two" / "config.json").exists()
    assert "taking up the run" in run(asked)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert one.shape == two.shape == (epochs, 2)
    assert np.ptp(one[:, 0]) > 1e-2  # it does learn something to compare
    np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.timeout(300)
def test_a_finished_state_is_removed_when_all_have_read_it(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who came late found none, and began to train alone."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    late, output = tmp_path / "late.py", tmp_path / "fusion"
    late.write_text(LATE)
    with monkeypatch.context() as patch:
        patch.setenv("BROKEN", "1")
        broken = command(named_memory, output, 1, processes=1, program=[str(late)])
        assert subprocess.run(broken, capture_output=True, timeout=120, check=False).returncode == 3
    assert "taking up the run" in run(command(named_memory, output, 1, processes=2, program=[str(late)]))
    assert not list((output / "work").glob("training-*"))
