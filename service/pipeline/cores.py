"""How many cores this process may use: what its affinity and its container leave it, not what the host has.

A container with a quota of 2 cores on a host of 64 sees 64; with a thread for each, every product of the encoder waits
for threads that the kernel holds back. Standard library only.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores by affinity, and by the quota of the container's control group (versions 1 and 2); at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


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
