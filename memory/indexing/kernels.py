"""FAISS, loaded so that its OpenBLAS uses the processor it runs on, and its OpenMP leaves torch's alone.

The rest of the room takes `faiss` from here.

The wheels bundle OpenBLAS 0.3.15, which takes processors younger than itself for a 2007 "Barcelona" and then multiplies
matrices several times slower than they can: training, assigning rows to lists, exact scans of large batches.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from memory.indexing.two_openmps import torchs_comes_first

_VARIABLE: Final = "OPENBLAS_CORETYPE"
# The flags each kernel's instructions need, as Linux names them; best first. The names are OpenBLAS's.
_KERNELS: Final = (
    ("SkylakeX", frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "fma"})),
    ("Haswell", frozenset({"avx2", "fma"})),
)


def kernel_for(flags: frozenset[str]) -> str | None:
    """The fastest OpenBLAS kernel whose instructions a processor has; None leaves the choice to OpenBLAS."""
    return next((name for name, needed in _KERNELS if needed <= flags), None)


def processor_flags() -> frozenset[str]:
    """What Linux says this x86 processor can do; nothing elsewhere."""
    if platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    line = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


@contextmanager
def _kernel_named() -> Iterator[None]:
    """OpenBLAS reads the variable once, while it is loaded; what the user set stays, and nothing is left behind."""
    kernel = None if _VARIABLE in os.environ else kernel_for(processor_flags())
    if kernel is None:
        yield
        return
    os.environ[_VARIABLE] = kernel
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


with _kernel_named(), torchs_comes_first() as _torchs_threads:
    import faiss as _faiss

    _faiss.omp_get_max_threads()

faiss: Any = _faiss  # its stubs know half of what it has


def usable_threads() -> int:
    """Threads that this process was given: OpenMP knows its affinity, and OMP_NUM_THREADS, which every command of RECO
    bounds by the quota of its container before FAISS is loaded. The host may have more cores."""
    return _torchs_threads or int(faiss.omp_get_max_threads())


__all__ = ["faiss", "kernel_for", "processor_flags", "usable_threads"]
