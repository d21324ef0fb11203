"""How many files the process may have open: a connection is one, and many systems begin with 1,024.

Standard library only.
"""

import logging

logger = logging.getLogger("reco.serving")

_OTHERS = 500  # the memory's shards and rows, Python's own, the loop's


def allow_connections(count: int) -> None:
    """Raise the process's own limit so far that this many connections can be open; say so if the system forbids it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        logger.warning("%d files may be open here, for %d connections: raise `ulimit -n`", most, count)
