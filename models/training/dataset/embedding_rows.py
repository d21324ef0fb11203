"""Embeddings of a memory, taken by row: held as one tensor where they are few, read from the mapped files otherwise.

Shapes: N rows, n of them taken, D embedding dim.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memory import Modality, SearchableMemory

RESIDENT_BYTES = 1 << 30  # a side larger than this is not copied to RAM: the mapped files are read a batch at a time
_DEVICE_SHARE = 0.3  # of a GPU's free memory that one side may take
_BLOCK = 65_536


class EmbeddingRows(Protocol):
    """(N, D) embeddings of one modality."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Tensor:
        """Embeddings of some rows (n,) int64 >= 0: (n, D) float32, unit norm, finite, a fresh copy."""
        ...


@dataclass(frozen=True)
class ResidentRows:
    """Embeddings in one tensor: (N, D), float32 of unit norm, or float16 on a GPU, normalised again when taken."""

    tensor: Tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, rows: Tensor) -> Tensor:
        """As `EmbeddingRows.take`; on the device of the tensor."""
        taken = self.tensor.index_select(0, rows.to(self.tensor.device))
        return taken if taken.dtype == torch.float32 else F.normalize(taken.float(), dim=-1)


@dataclass(frozen=True)
class MappedRows:
    """Embeddings where they lie: in the memory-mapped files of a memory."""

    memory: SearchableMemory
    modality: Modality

    def __len__(self) -> int:
        return self.memory.num_rows

    def take(self, rows: Tensor) -> Tensor:
        """As `EmbeddingRows.take`; on the CPU."""
        return torch.from_numpy(self.memory.rows(self.modality, rows.numpy()))


def open_rows(memory: SearchableMemory, modality: Modality, device: str = "cpu") -> EmbeddingRows:
    """One side of a memory: on the GPU in float16 where it fits, in RAM where it is small, mapped otherwise."""
    mapped = MappedRows(memory, modality)
    numbers = len(mapped) * memory.embed_dim
    if device.startswith("cuda") and 2 * numbers < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return ResidentRows(
            _copied(mapped, torch.empty(len(mapped), memory.embed_dim, dtype=torch.half, device=device))
        )
    if 4 * numbers <= RESIDENT_BYTES:
        return ResidentRows(_copied(mapped, torch.empty(len(mapped), memory.embed_dim)))
    return mapped


def check_finite(taken: Tensor, rows: Tensor, modality: Modality) -> None:
    """Refuse embeddings (n, D) that are not finite, naming the first of their rows (n,).

    Raises:
        ValueError: there is one.
    """
    if not torch.isfinite(taken.sum()):  # one number decides; only then each row is looked at
        wrong = rows[(~taken.isfinite().all(dim=1)).nonzero()[0, 0].cpu()]
        raise ValueError(
            f"row {int(wrong)} of the memory: its {modality} embedding is not finite; build the memory again"
        )


def _copied(mapped: MappedRows, tensor: Tensor) -> Tensor:
    for rows in torch.from_numpy(np.arange(len(mapped))).split(_BLOCK):
        taken = mapped.take(rows)
        check_finite(taken, rows, mapped.modality)
        tensor[rows[0] : rows[-1] + 1] = taken
    return tensor
