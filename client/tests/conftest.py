"""Scripted servers for the tests of this room."""

import threading
from collections.abc import Callable, Iterator

import pytest
from scripted_service import Reply, Scripted


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[int], Reply]], Scripted]]:
    """Start a scripted server; all are stopped at the end."""
    running: list[tuple[Scripted, threading.Thread]] = []

    def start(script: Callable[[int], Reply]) -> Scripted:
        one = Scripted(script)
        thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((one, thread))
        return one

    yield start
    for one, thread in running:
        one.server.shutdown()
        thread.join()
        one.server.server_close()
