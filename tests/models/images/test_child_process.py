"""A process that decodes ends with its parent and at its parent's word, whatever loaded it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.synchronize import Event

import pytest

from models.images.child_process import settle


def settled(ready: Event) -> None:
    settle()
    ready.set()
    threading.Event().wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who sent a signal")
def test_only_its_parent_ends_it() -> None:
    context = multiprocessing.get_context("spawn")  # no server of forks has blocked anything for it
    ready = context.Event()
    child = context.Process(target=settled, args=(ready,), daemon=True)
    child.start()
    assert ready.wait(60)
    stranger = f"import os; os.kill({child.pid}, {int(signal.SIGTERM)})"
    for _ in range(5):
        subprocess.run([sys.executable, "-c", stranger], check=True)
    os.kill(child.pid or 0, signal.SIGINT)
    child.join(1)
    assert child.is_alive()
    child.terminate()
    child.join(10)
    assert child.exitcode == 1
