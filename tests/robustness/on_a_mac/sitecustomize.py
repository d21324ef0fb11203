"""Imported by Python as it starts, if its folder is on PYTHONPATH: takes away what Linux has and a Mac has not."""

import builtins
import io
import os
import resource
import signal
import sys
import sysconfig
import types
from typing import Any, NoReturn

_open, _sysconf = io.open, os.sysconf
_getrlimit, _setrlimit = resource.getrlimit, resource.setrlimit


def _not_there(file: Any, *args: Any, **options: Any) -> Any:
    if isinstance(file, str | os.PathLike) and os.fspath(file).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", os.fspath(file))
    return _open(file, *args, **options)


def _knows_nothing_free(name: str) -> int:
    if name == "SC_AVPHYS_PAGES":
        raise ValueError("unrecognized configuration name")
    return _sysconf(name)


def _names_no_limit(what: int) -> tuple[int, int]:
    return (256, resource.RLIM_INFINITY) if what == resource.RLIMIT_NOFILE else _getrlimit(what)


def _has_one_all_the_same(what: int, limits: tuple[int, int]) -> None:
    if what == resource.RLIMIT_NOFILE and limits[0] > 10_240:
        raise ValueError("current limit exceeds maximum limit")
    _setrlimit(what, (limits[0], _getrlimit(what)[1]))


def _no_threads_priorities(*_: int) -> NoReturn:
    raise PermissionError(1, "Operation not permitted")


for module, names in (
    (os, ("memfd_create", "sched_getaffinity", "sched_setaffinity", "posix_fadvise", "copy_file_range", "eventfd")),
    (signal, ("sigwaitinfo", "sigtimedwait")),
):
    for name in names:
        delattr(module, name)
del os.sysconf_names["SC_AVPHYS_PAGES"]
os.sysconf, os.setpriority = _knows_nothing_free, _no_threads_priorities  # type: ignore[assignment]
resource.getrlimit, resource.setrlimit = _names_no_limit, _has_one_all_the_same
io.open = builtins.open = _not_there
proxies: Any = types.ModuleType("_scproxy")  # the standard library asks a Mac for them
proxies._get_proxies, proxies._get_proxy_settings = dict, lambda: {"exclude_simple": False}
sys.modules["_scproxy"] = proxies
sysconfig.get_config_vars()  # read while the files of this system are looked for
sys.platform = "darwin"
