"""AdamW with a cosine, and its state as plain tensors: torch would pickle it."""

import math

import torch
from torch import Tensor

from models.fusion import Fusion
from models.training.config import TrainConfig

_PREFIX = "optimizer"


class CosineAdamW:
    """AdamW whose rate rises linearly, then falls along a cosine to zero; weight decay on matrices only.

    Attributes:
        step_number: steps made.
    """

    def __init__(self, fusion: Fusion, config: TrainConfig, steps: int) -> None:
        matrices = [p for p in fusion.parameters() if p.ndim >= 2]
        others = [p for p in fusion.parameters() if p.ndim < 2]
        self._peak, self._steps = config.learning_rate, steps
        self._warm_up = max(1, round(config.warm_up * steps))
        self.step_number = 0
        self._parameters = [*matrices, *others]
        self._logit_scale = fusion.logit_scale
        self._adam = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=all(p.device.type in ("cpu", "cuda") for p in self._parameters),
        )

    def step(self) -> None:
        """Clip the gradients to norm 1, step, keep the logit scale in its range, and forget the gradients."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self._rate()
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():  # not clamped in the loss: at the limit and beyond it had no gradient, and stayed
            self._logit_scale.clamp_(0, math.log(100))
        self.step_number += 1

    def tensors(self) -> dict[str, Tensor]:
        """The moments, by parameter and name, on the CPU."""
        state = self._adam.state_dict()["state"]
        return {
            f"{_PREFIX}.{number}.{name}": tensor.detach().cpu().contiguous()
            for number, moments in state.items()
            for name, tensor in moments.items()
        }

    def load(self, tensors: dict[str, Tensor], step_number: int) -> None:
        """Go on from what `tensors` told after `step_number` steps."""
        moments: dict[int, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            prefix, _, rest = path.partition(".")
            if prefix == _PREFIX:
                number, _, name = rest.partition(".")
                moments.setdefault(int(number), {})[name] = tensor
        groups = self._adam.state_dict()["param_groups"]
        self._adam.load_state_dict({"state": moments, "param_groups": groups})
        self.step_number = step_number

    def _rate(self) -> float:
        if self.step_number < self._warm_up:
            return self._peak * (self.step_number + 1) / self._warm_up
        along = (self.step_number - self._warm_up) / max(1, self._steps - self._warm_up)
        return self._peak * 0.5 * (1 + math.cos(math.pi * along))
