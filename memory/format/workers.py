"""Workers that write units without the build lock, and sweeping that leaves them alone. Imports work_files, durable."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memory.format.durable import make_directory, sweep_temporaries
from memory.format.work_files import UNITS, WORK, WORKERS


@contextmanager
def working(root: Path) -> Iterator[None]:
    """Be a worker: what it has half-written among the units is not swept away meanwhile.

    The kernel drops the lock when the process ends, however it ends. A file system that knows no locks has none.
    """
    make_directory(root / WORK)
    descriptor = os.open(root / WORKERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a sweep, which takes no time
        yield
    finally:
        os.close(descriptor)


def sweep_units(root: Path) -> None:
    """Remove what killed writers left among the units, unless workers are writing there. For the holder of the lock."""
    try:
        descriptor = os.open(root / WORKERS, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # there never was a worker
        sweep_temporaries(root / UNITS)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sweep_temporaries(root / UNITS)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
