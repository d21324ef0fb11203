"""The limit of open files, in processes of their own: it cannot be raised again once lowered."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from served_process import free_port

_SCRIPT = """
import logging, resource, sys
from service.open_files import allow_connections
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allow_connections(100))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""

_SERVING = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from service.serving import run
from service.settings import Settings
run(Settings(model="none", memory="none", stamps="none", port={port}))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [
        (200, 900, ["100", "600"]),
        (
            100,
            150,
            ["150 files may be open here: 75 connections instead of 100; raise `ulimit -n` to 600", "75", "150"],
        ),
        (200, 570, ["100", "570"]),
        (64, 64, ["64 files may be open here: 32 connections instead of 100; raise `ulimit -n` to 600", "32", "64"]),
        (700, 900, ["100", "700"]),
    ],
)
def test_the_limit_follows_the_connections_and_they_follow_what_it_leaves(
    soft: int, hard: int, told: list[str]
) -> None:
    script = _SCRIPT.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == told


def test_a_limit_that_leaves_no_room_for_a_service_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT.format(soft=40, hard=63)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "service.settings.SettingsError: 63 files may be open here, and a service needs 64 at least: raise `ulimit -n`"
    )


def test_idle_connections_make_room_before_files_run_out(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", _SERVING.format(port=port)]
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("wb"))
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{port}/livez"
        patient = stack.enter_context(httpx.Client(transport=httpx.HTTPTransport(retries=8)))
        assert patient.get(url).status_code == 200
        for _ in range(100):
            assert stack.enter_context(httpx.Client()).get(url).status_code == 200
