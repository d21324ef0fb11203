"""A server in a process of its own: a port that nobody listens on, and waiting until the service answers there."""

import socket
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(url: str) -> bool:
    """Whether a service says at this address that it is ready.

    By Python's own client: httpx loads all certificates for each call, and while a service starts it is asked often.
    """
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(
    url: str, process: "subprocess.Popen[bytes]", told: Callable[[], str] = lambda: "", within_s: float = 120
) -> None:
    """Return once it is ready; fail where its process ends, or after a while.

    Args:
        url: where it listens.
        process: its own.
        told: what it said so far, for the failure.
        within_s: how long to wait.
    """
    end = time.monotonic() + within_s
    while not is_ready(url):
        assert process.poll() is None, f"the service ended: {told()}"
        assert time.monotonic() < end, f"the service was never ready: {told()}"
        time.sleep(0.1)
