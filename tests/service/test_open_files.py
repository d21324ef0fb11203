"""The limit of open files, in processes of their own: it cannot be raised again once lowered."""

import subprocess
import sys

import pytest

_SCRIPT = """
import logging, resource, sys
from service.open_files import allow_connections
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_connections(100)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [
        (200, 900, ["600"]),
        (200, 300, ["300 files may be open here, for 100 connections: raise `ulimit -n`", "300"]),
        (700, 900, ["700"]),
    ],
)
def test_the_limit_follows_the_connections(soft: int, hard: int, told: list[str]) -> None:
    script = _SCRIPT.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == told
