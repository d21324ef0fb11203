"""One training run on several processes, as `torchrun` starts them: each has a share of every batch.

A process refines its own share, all see all refined embeddings (so the negatives are the whole batch's), and the
gradients are added up: loss and gradient are those of one process on the whole batch. `World()` is a process alone.
Shapes: B pairs in a batch, b of them this process's, D embedding dim.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(days=7)  # the others wait while the first searches the candidates


@dataclass(frozen=True)
class World:
    """The processes of a run: which one this is, of how many."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things in order; the parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, own: Tensor, total: int) -> Tensor:
        """(b, D) of every process, in order: (B, D). Its gradient comes back to each process's own rows."""
        if self.size == 1:
            return own
        gathered: Tensor = _Gather.apply(own, total, self)
        return gathered

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def logsumexp(self, tensor: Tensor) -> Tensor:
        """The logarithm of the sum over all processes of the exponentials, without overflow."""
        if self.size == 1:
            return tensor
        most = tensor.clone()
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        return most + self.add_up((tensor - most).exp()).log()

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = self.add_up(torch.cat([one.flatten() for one in gradients]))
        for gradient, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def leave(self) -> None:
        """Part from the others; nothing is shared after it."""
        if self.size > 1:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def join_world(device: str) -> World:
    """The world that `torchrun` describes in the environment; a process alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    return World(dist.get_rank(), dist.get_world_size())


def local_rank() -> int:
    """Which process of this machine this is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class _Gather(torch.autograd.Function):
    """All rows forward; backward, the gradients that all processes have for this one's rows, added up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, total: int, world: World) -> Tensor:
        ctx.world, ctx.part = world, world.share(total)
        rows = own.new_zeros(total, own.shape[1])
        rows[ctx.part] = own
        return world.add_up(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.add_up(gradient.contiguous().clone())[ctx.part], None, None
