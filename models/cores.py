"""How many cores this process may use: what its affinity and its container leave it, not what the host has.

A container with a quota of 2 cores on a host of 64 sees 64; with a thread for each, every product of the encoder and
every search waits for threads that the kernel holds back. Standard library only.
"""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_OPENMP = "OMP_NUM_THREADS"
_MOMENT = "30000"  # turns of a waiting thread's loop in libgomp: three quarters of a millisecond


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores by affinity, and by the quota of the container's control group (versions 1 and 2); at least 1."""
    quota = _quota(cgroup)
    return _own_cores() if quota is None else max(1, min(_own_cores(), math.ceil(quota)))


def bound_openmp(environ: MutableMapping[str, str] = os.environ, cgroup: Path = CGROUP) -> None:
    """Bound the threads that FAISS and torch start, in whatever thread of ours: to RECO_THREADS, else to a quota.

    Call it before either is loaded, for OpenMP reads its variable once; set later it holds for the thread that sets it
    alone. What the user gave OpenMP stays, and where nothing bounds the cores OpenMP's own choice is left to it.
    """
    asked, usable = environ.get("RECO_THREADS", ""), usable_cores(cgroup)
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        environ.setdefault(_OPENMP, asked)
    elif usable < _own_cores():
        environ.setdefault(_OPENMP, str(usable))


def wait_briefly(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP's threads spin for a moment while they wait for one another, and sleep then.

    Spinning on, they would take the cores that requests are read and pictures decoded on: texts cost 11 % more. Asleep
    at once, each of an encoder's hundred products begins with waking a thread: a text that is alone takes 13 ms instead
    of 7. And asleep at once they are under `passive`, whatever GOMP_SPINCOUNT says, as soon as the teams of all threads
    of ours have more members than there are cores; under `active` libgomp then spins for a thirtieth of the moment.
    LLVM's and Intel's OpenMP know no moment but whole milliseconds, and would spin for ever: there they sleep.

    Call it before torch or FAISS is loaded. A wait policy of the user's stays, and all of this is left out.
    """
    if "OMP_WAIT_POLICY" not in environ:
        environ["OMP_WAIT_POLICY"] = "active"
        environ.setdefault("GOMP_SPINCOUNT", _MOMENT)
        environ.setdefault("KMP_BLOCKTIME", "0")


def _own_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Cores that the control group allows; None for no limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            allowed, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            allowed, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip()
                for name in ("quota", "period")
            )
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # not there, or "max"
        return None
