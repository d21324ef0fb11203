"""How many files a command may have open: a memory of many small builds has some for each, and many systems begin with
1,024. Standard library only; the service raises its limit for its connections (service/open_files.py)."""

import resource
import sys

ENOUGH = 10_240 if sys.platform == "darwin" else 65_536  # a Mac that names no limit refuses more


def allow_many_files() -> None:
    """Raise the process's own limit as far as the system lets it, and no further than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
