"""Commands on addresses: info, verify, train and eval read a copy; what would change a memory refuses one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Reco = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def reco(tmp_path: Path) -> Reco:
    """Run a command in a process of its own."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "reco.cli", *words], capture_output=True, text=True, env=environment
        )

    return run


def test_an_address_without_the_option_is_one_sentence(reco: Reco, tmp_path: Path) -> None:
    for words in (("memory", "info", "s3://bucket/birds"), ("train", "s3://bucket/birds", "-o", str(tmp_path / "f"))):
        done = reco(*words)
        assert done.returncode in (1, 2)
        assert "--allow-remote s3 allows this kind" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["compact", "gc", "rollback"])
def test_a_memory_in_a_store_is_not_changed(command: str, reco: Reco) -> None:
    words = ["1"] if command == "rollback" else []
    done = reco("memory", command, "s3://bucket/birds", *words)
    assert done.returncode == 2
    assert "only read" in done.stderr


@pytest.mark.stores
def test_info_and_verify_tell_of_the_copy(bucket: Any, reco: Reco, memory_dir: Path, tmp_path: Path) -> None:
    address = bucket.upload(memory_dir, "birds")
    told = reco("memory", "info", address, "--allow-remote", "s3")
    assert told.returncode == 0, told.stderr
    assert "24 in 1 segment\n" in told.stdout
    copy = next((tmp_path / "cache/reco/memories").iterdir())
    assert str(copy) in told.stdout
    assert "sound" in reco("memory", "verify", address, "--full", "--allow-remote", "s3").stdout
    assert "sound" in reco("memory", "verify", str(copy), "--full").stdout


@pytest.mark.stores
def test_train_and_eval_read_an_address(bucket: Any, reco: Reco, memory_dir: Path, tmp_path: Path) -> None:
    import numpy as np

    from memory import Memory

    with Memory.open(memory_dir) as memory:
        ids = np.arange(memory.num_rows)
        sides = {modality: memory.rows(modality, ids) for modality in ("image", "text")}
    np.savez(tmp_path / "task.npz", pairs=np.stack([ids, ids], axis=1), **sides)
    address = bucket.upload(memory_dir, "birds")
    fusion = str(tmp_path / "fusion")
    trained = reco(
        "train", address, "-o", fusion, "--allow-remote", "s3", "--design", "gate", "--epochs", "1", "--k", "4"
    )
    assert trained.returncode == 0, trained.stderr
    assert f"--memory {address} --allow-remote s3" in trained.stderr
    measured = reco("eval", address, fusion, str(tmp_path / "task.npz"), "--allow-remote", "s3", "--bootstrap", "0")
    assert measured.returncode == 0, measured.stderr
