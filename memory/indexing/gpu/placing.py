"""What of a memory goes to a GPU: its rows if they fit, else its codes if a GPU knows them, else nothing."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from memory.errors import GpuSearchUnavailable
from memory.format.families import SQ8, Family
from memory.indexing.gpu.owner import num_gpus

_GROWTH: Final = 2.0  # FAISS doubles what it holds as rows come in, and copies


@dataclass(frozen=True)
class Gpu:
    """A GPU to search on.

    Attributes:
        device: its number.
        budget_bytes: of its memory, for both modalities.
        required: refuse a memory that it cannot search; else the CPU does.
    """

    device: int
    budget_bytes: int
    required: bool = False

    @property
    def name(self) -> str:
        return f"cuda:{self.device}"


class Placed(NamedTuple):
    """Where a memory is searched.

    Attributes:
        gpu: None for the CPU.
        scans: rows (each of them) or lists (the nearest).
    """

    gpu: Gpu | None
    scans: Literal["rows", "lists"]

    @property
    def device(self) -> str:
        return "cpu" if self.gpu is None else self.gpu.name


ON_CPU: Final = Placed(None, "lists")


def place(family: Family, rows: int, gpu: Gpu | None) -> tuple[Placed, str | None]:
    """Choose, and say why if a GPU is there and is not used.

    Args:
        family: of the memory's indices, the same for both modalities.
        rows: N, of each.
        gpu: to use if it can be.

    Raises:
        GpuSearchUnavailable: it cannot be, and is required.
    """
    on_cpu = Placed(None, "rows") if family.is_exact else ON_CPU
    if gpu is None:
        return on_cpu, None
    row_bytes, code_bytes = (int(2 * rows * one) for one in (2 * family.embed_dim, family.embed_dim + 8))
    if gpu.device >= num_gpus():
        reason = f"faiss-gpu finds {num_gpus()} GPUs: install RECO with EXTRA=gpu"
    elif _GROWTH * row_bytes <= gpu.budget_bytes:
        return Placed(gpu, "rows"), None
    elif family.kind == SQ8 and code_bytes <= gpu.budget_bytes:
        return Placed(gpu, "lists"), None
    else:
        reason = (
            f"{row_bytes / 1e9:.1f} GB of rows do not fit {gpu.budget_bytes / 1e9:.1f} GB of {gpu.name}, and a GPU "
            "knows no lists but those of IVF,SQ8"
        )
    if gpu.required:
        raise GpuSearchUnavailable(f"this memory cannot be searched on a GPU: {reason}")
    return on_cpu, reason
