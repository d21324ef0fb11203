"""Which device, threads and number format the encoder runs in. Imports torch only."""

import os
from collections.abc import MutableMapping

import torch

from models.cores import usable_cores
from models.errors import EncoderError

_CACHED_KERNELS = 64
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's, and of each thread of torch
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str) -> torch.device:
    """Resolve "auto" (cuda, then cpu) or check that the named device is there.

    Apple's GPU (torch's mps) is none of them: two threads may not ask it at once (pytorch#197805), and it has no
    float64, in which fusions are fitted.

    Raises:
        EncoderError: device_unavailable.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or not _is_available(chosen):
        raise EncoderError(
            "device_unavailable",
            f"Device {device!r} is not on this machine. Use auto, cpu, cuda or cuda:N with N < "
            f"{torch.cuda.device_count()}.",
        )
    return chosen


def choose_threads(asked: int | None = None) -> int:
    """Threads of torch on a CPU: as many as asked for, else a core's each, and no more than torch would take."""
    return asked or min(torch.get_num_threads(), usable_cores())


def bound_cached_kernels(environ: MutableMapping[str, str] = os.environ) -> None:
    """Bound the kernels that are kept on a CPU; call it before the first product, which reads the variables.

    oneDNN makes one for each new shape, of some 0.4 MB and in a fifth of a millisecond, and would keep 1,024 of them.
    So would each thread of torch, and what a thread holds is not freed where oneDNN lets go of it: a build of 5,000
    rows had 100 MB of them. A batch needs about ten, of a convolutional tower twenty. What the user set stays.
    """
    for variable in _KERNEL_CACHES:
        environ.setdefault(variable, str(_CACHED_KERNELS))


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Resolve "auto" to what is fast and safe on `device`, or look the name up.

    auto: CUDA gets bfloat16, or float16 where the card has no bfloat16 of its own; a CPU gets bfloat16 only if it
    multiplies in it (emulated bfloat16 is slower than float32); everything else float32.

    Raises:
        EncoderError: dtype_unknown.
    """
    if dtype == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else torch.float32
    if dtype not in DTYPES:
        raise EncoderError("dtype_unknown", f"dtype {dtype!r} is not known. Use auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _is_available(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu"


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
