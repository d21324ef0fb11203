"""How many files the process may have open: a connection is one, and many systems begin with 1,024.

Standard library and settings' error only.
"""

import logging
import resource
import sys

from service.settings import SettingsError

logger = logging.getLogger("reco.serving")

_OTHERS = 500  # the memory's shards and rows, Python's own, the loop's; of a lower limit half
_MOST = 10_240 if sys.platform == "darwin" else sys.maxsize  # a Mac that names no limit refuses more
_FEWEST = 64  # a small service has some twenty open before anybody comes, and more while it loads


def allow_connections(count: int) -> int:
    """Raise the process's own limit so far that this many connections can be open; say so if the system forbids it.

    Returns:
        how many can be: a connection beyond the limit would be reset, and nobody would know.

    Raises:
        SettingsError: the limit is too low for any.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return count
    most = min(wanted, _MOST) if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < min(wanted, _FEWEST):
        raise SettingsError(f"{most} files may be open here, and a service needs {_FEWEST} at least: raise `ulimit -n`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    left = min(count, max(most - _OTHERS, most // 2))
    if left < count:
        told = "%d files may be open here: %d connections instead of %d; raise `ulimit -n` to %d"
        logger.warning(told, most, left, count, wanted)
    return left
