"""On a Mac torch and FAISS each bring an OpenMP of their own, and two of them in a process end it.

The second to be loaded aborts ("OMP: Error #15"), unless it is told not to; and as both define the same functions, the
loader gives it some of the first one's, so that it crashes as soon as its threads wait for one another (pytorch#149201,
faiss-wheels#73). So torch's is loaded first, whoever imports what, and FAISS's has one thread: it never waits. Searches
are shared out among threads of ours, and are as quick; training lists takes longer.

Standard library only.
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def torchs_comes_first() -> Iterator[int | None]:
    """Load FAISS within, up to its first call. What the user set stays, and nothing is left behind.

    Gives how many threads torch's OpenMP has: as many as this process was given; None where there is only one OpenMP.
    """
    torchs = _torchs_openmp() if sys.platform == "darwin" else None
    if torchs is None:
        yield None
        return
    threads = int(torchs.omp_get_max_threads())  # from here on it looks at no variable
    before = dict(os.environ)
    os.environ.update(KMP_DUPLICATE_LIB_OK="TRUE", OMP_NUM_THREADS="1")
    try:
        yield threads
    finally:
        for name in ("KMP_DUPLICATE_LIB_OK", "OMP_NUM_THREADS"):
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})


def _torchs_openmp() -> ctypes.CDLL | None:
    package = importlib.util.find_spec("torch")  # loads nothing of it
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "lib" / "libomp.dylib"
    return ctypes.CDLL(str(path), ctypes.RTLD_LOCAL) if path.is_file() else None
