"""A killed run goes on where its last epoch ended, and ends in the same weights."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from memory import Memory
from models.training import EpochReport, Surroundings, TrainingPairs, train
from models.training.gradients.resume import load_state, run_name
from models.training.recipes import recipe

CHILD = Path(__file__).with_name("training_child.py")


def start(state: Path, output: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), "run", str(state), str(output), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(CHILD.parents[4])})


def test_a_killed_run_ends_in_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    killed = start(tmp_path / "killed", tmp_path / "never", seconds=0.2)  # 4 steps an epoch
    assert killed.stdout is not None
    lines = iter(killed.stdout)
    assert [next(lines).strip() for _ in range(2)] == ["epoch 1", "epoch 2"]
    killed.send_signal(signal.SIGKILL)  # in the third epoch
    assert killed.wait(60) == -signal.SIGKILL
    killed.stdout.close()
    left = load_state(tmp_path / "killed")
    assert left is not None
    assert len(left.reports) == 2

    resumed, whole = (start(tmp_path / name, tmp_path / f"{name}.out", 0) for name in ("killed", "whole"))
    for process in (resumed, whole):
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert told.split("\n")[:6] == [f"epoch {number}" for number in range(1, 7)]
    one, other = (load_file(tmp_path / f"{name}.out") for name in ("killed", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    before, after = (load_state(tmp_path / name) for name in ("killed", "whole"))
    assert before is not None
    assert after is not None
    assert before.reports == after.reports
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)


def test_a_finished_run_is_not_run_again(named_memory: Memory, tmp_path: Path) -> None:
    pairs = TrainingPairs.from_memory(named_memory, np.arange(60))
    config = recipe("gate", 128, k=5, epochs=3, batch_size=30)
    steps: list[tuple[int, int]] = []
    around = Surroundings(state=tmp_path / "state", progress=lambda *done: steps.append(done))
    one = train(pairs, config, surroundings=around)
    assert steps == [(30 * number, 180) for number in range(1, 7)]
    other = train(pairs, config, surroundings=around)
    assert len(steps) == 6
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_training_stops_when_validation_gets_no_better(named_memory: Memory, tmp_path: Path) -> None:
    pairs = TrainingPairs.from_memory(named_memory, np.arange(120))
    held_out = TrainingPairs.from_memory(named_memory, np.arange(120, 240))
    config = recipe("copy", 128, k=5, epochs=50, batch_size=60, learning_rate=0.1, patience=3)  # it will wander
    reports: list[EpochReport] = []
    around = Surroundings(state=tmp_path / "state")
    train(pairs, config, held_out, reports.append, around)
    losses = [one.validation for one in reports]
    assert len(losses) < 50
    assert losses.index(min(losses)) == len(losses) - 4
    again: list[EpochReport] = []
    train(pairs, config, held_out, again.append, around)
    assert again == reports  # stopped stays stopped


def test_a_loss_that_is_no_number_is_told(named_memory: Memory) -> None:
    pairs = TrainingPairs.from_memory(named_memory, np.arange(60))
    with pytest.raises(ValueError, match="take a lower learning rate than 1e\\+30"):
        train(pairs, recipe("copy", 128, k=5, batch_size=30, learning_rate=1e30))


def test_a_damaged_state_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="begin anew with --restart"):
        load_state(path)
    assert load_state(tmp_path / "absent") is None


def test_runs_share_a_name_only_if_they_train_the_same() -> None:
    config = recipe("copy", 128)
    ids = np.arange(5).tobytes()
    names = {
        run_name(config, "digest", ids),
        run_name(replace(config, seed=1), "digest", ids),
        run_name(config, "other", ids),
        run_name(config, "digest", ids[8:]),
    }
    assert len(names) == 4
    assert run_name(config, "digest", ids) in names


def test_bfloat16_trains_about_the_same_and_leaves_float32(named_memory: Memory) -> None:
    pairs = TrainingPairs.from_memory(named_memory, np.arange(240))
    config = recipe("faithful", 128, k=5, epochs=3, batch_size=60)
    losses: dict[bool, float] = {}
    for amp in (False, True):
        reports: list[EpochReport] = []
        fusion = train(pairs, replace(config, amp=amp), pairs, reports.append)
        losses[amp] = reports[-1].validation
        assert all(tensor.dtype == torch.float32 for tensor in fusion.state_dict().values())
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
