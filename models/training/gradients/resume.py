"""The state of a training run on disk, so that a killed run goes on where its last epoch ended.

One safetensors file, written whole or not at all: the weights, the best ones so far, the optimizer's moments, the dice,
and as JSON in its header how far the run came and of which settings it is. Never a pickle.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from memory.format.durable import make_directory, write_bytes
from models.training.config import TrainConfig

# 1 held validation losses of unequal batches, which cannot be compared with later ones; 2 logit scales that had stuck.
FORMAT = "3"


@dataclass(frozen=True)
class EpochReport:
    """Progress after an epoch; `validation` is NaN when there are no validation pairs."""

    epoch: int
    epochs: int
    loss: float
    validation: float


@dataclass
class TrainState:
    """Where a run is.

    Attributes:
        reports: of the epochs that are done.
        steps: made so far.
        best: validation loss of the epoch that is kept.
        waited: epochs since then.
        tensors: by name; `fusion.…`, `best.…`, `optimizer.…` and the dice's `dice`.
    """

    reports: list[EpochReport] = field(default_factory=list)
    steps: int = 0
    best: float = math.inf
    waited: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {
            name[len(prefix) + 1 :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix + ".")
        }


def run_name(config: TrainConfig, memory_digest: str, *parts: bytes) -> str:
    """A name that two runs share only if they would train the same: a hash of all they depend on."""
    told = json.dumps([FORMAT, asdict(config), memory_digest], sort_keys=True).encode()
    return "training-" + hashlib.sha256(b"\0".join([told, *parts])).hexdigest()[:16]


def save_state(path: Path, state: TrainState) -> None:
    """Put the state in the place of an older one.

    Raises:
        WriteFailed: the disk is full or not to be written; the older state is untouched.
    """
    told = {"reports": [asdict(one) for one in state.reports], "steps": state.steps}
    told |= {"best": state.best, "waited": state.waited}
    make_directory(path.parent)
    write_bytes(path, save(state.tensors, {"format": FORMAT, "state": json.dumps(told)}), replace=True)


def load_state(path: Path) -> TrainState | None:
    """The state that a run left; None if it left none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told: Mapping[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        reports = [EpochReport(**one) for one in told["reports"]]
        return TrainState(reports, told["steps"], told["best"], told["waited"], tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no state of a training run ({error}): begin anew with --restart") from error
