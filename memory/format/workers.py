"""Workers that write units without the build lock, and sweeping that leaves them alone. Imports errors, durable and the
names of the work folder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memory.errors import WriteFailed
from memory.format.durable import make_directory, sweep_temporaries
from memory.format.work_files import UNITS, WORK, WORKERS


@contextmanager
def working(root: Path) -> Iterator[None]:
    """Be a worker: what it has half-written among the units is not swept away meanwhile.

    The kernel drops the lock when the process ends, however it ends. A file system that knows no locks has none.

    Raises:
        WriteFailed: the memory may not be written to.
    """
    make_directory(root / WORK)
    try:
        descriptor = _opened(root)
    except OSError as error:
        raise WriteFailed(
            f"{root / WORKERS} cannot be opened: {error.strerror or error}. Workers need to be allowed to write to all "
            "of a memory."
        ) from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a sweep, which takes no time
        yield
    finally:
        os.close(descriptor)


def sweep_units(root: Path) -> None:
    """Remove what killed writers left among the units, unless workers are writing there, or nobody can tell.

    For the holder of the lock.
    """
    if not (root / UNITS).is_dir():
        return
    try:
        descriptor = _opened(root)  # made if it is not there: the first worker of all may begin just now
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass
    else:
        sweep_temporaries(root / UNITS)
    finally:
        os.close(descriptor)


def _opened(root: Path) -> int:
    return os.open(root / WORKERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
