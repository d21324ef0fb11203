"""A connection to Ray for as long as a build takes: to a cluster that runs, or to a Ray of this machine's own."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from memory_builder.errors import EngineError
from models.cores import usable_cores


@contextmanager
def connected(address: str | None, *, cpus: int = 0) -> Iterator[None]:
    """Connect to Ray, and let go at the end.

    Args:
        address: HOST:PORT of a cluster's head, or `auto` for the one this machine belongs to; None starts a Ray of its
            own on this machine, and ends it.
        cpus: of a Ray of its own; 0 means all cores.

    Raises:
        EngineError: engine_missing, engine_unreachable.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a Ray of our own reports its use to its makers
    try:
        import ray
    except ImportError as error:
        raise EngineError("engine_missing", "Ray is not installed: pip install 'reco-clip[ray]'.") from error
    own = {"num_cpus": cpus or usable_cores(), "include_dashboard": False} if address is None else {}
    try:
        if address not in (None, "auto"):
            _knock(address)
        # Ray has workers import from where we stand, and there a memory called `memory` would be taken for our room.
        with _own_signals(), chdir(Path(__file__).parents[3]):
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
        raise EngineError(
            "engine_unreachable",
            f"No Ray answers at {address or 'this machine'}: {_first_line(error)} Give HOST:PORT of the cluster's "
            "head, or `auto` on one of its machines; Ray and Python must have the cluster's versions.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray asks for minutes, and then ends the process."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, in place of which Ray puts its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if text.endswith(".") else f"{text}."
