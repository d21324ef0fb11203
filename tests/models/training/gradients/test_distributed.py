"""Two processes that share each batch compute what one does on the whole batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from served_process import free_port

from models.training.gradients.distributed import ALONE, World

CHILD = Path(__file__).with_name("training_child.py")
DESIGNS = ("faithful", "copy", "gate")


@pytest.fixture(scope="module")
def child() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found together, by design: they take longer to start than to compute."""
    port = free_port()
    output = tmp_path_factory.mktemp("shared")
    around = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(CHILD), "step", str(output), *DESIGNS],
            env={**around, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(CHILD.parents[4])},
        )
        for rank in range(2)
    ]
    assert [one.wait(120) for one in processes] == [0, 0]
    return output


@pytest.mark.parametrize("design", DESIGNS)
def test_loss_and_gradients_equal_those_of_one_process(design: str, child: ModuleType, shared: Path) -> None:
    """61 pairs on two processes: 30 and 31, equal captions on both sides of the cut, all draws switched on."""
    found, expected = load_file(shared / design), child.step(design, ALONE)
    assert found.keys() == expected.keys()
    assert "logit_scale" in found
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_shares_cover_everything_once() -> None:
    for count in (0, 1, 7, 61):
        parts = [World(rank, 4).share(count) for rank in range(4)]
        assert [place for part in parts for place in range(count)[part]] == list(range(count))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1
