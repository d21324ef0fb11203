"""What only a GPU can show (`make gpu`); everything here is skipped without one."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: torch finds no CUDA device", allow_module_level=True)
