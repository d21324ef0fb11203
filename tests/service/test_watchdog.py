"""The watchdog of a process that is paused, that hangs, and whose compute thread ends: each a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

CHILD = """
import logging.config, sys, time
from service.observing.logs import logging_config
from service.pipeline.batcher import Batcher
from service.pipeline.watchdog import Watchdog

def compute(modality, queries):
    print("computing", flush=True)
    for _ in range(queries[0]):
        time.sleep(0.1)
    return queries, {}

def begin():
    if sys.argv[1] == "ends":
        raise PermissionError("no priority for a thread")

logging.config.dictConfig(logging_config("text"))
batcher = Batcher(compute, max_batch_size=1, max_queue_items=1, on_thread=begin)
dog = Watchdog(batcher, max_batch_s=2.0)
batcher.start(); dog.start()
if sys.argv[1] == "ends":
    time.sleep(30)
[future] = batcher.submit("text", [int(sys.argv[2])], time.monotonic() + 30)
print(future.result(30).answer)
batcher.stop(); dog.stop()
"""


def begun(*arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=pipe, stderr=pipe, text=True)


def test_X22_a_process_that_was_paused_has_not_hung() -> None:
    """As `docker pause` does, or a debugger: the clock goes on, and nothing else."""
    with begun("computes", "10") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "computing\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(child.pid, signal.SIGCONT)
        out, told = child.communicate(timeout=30)
    assert (child.returncode, out) == (0, "10\n"), told


def test_X22_a_process_that_hangs_says_so_before_it_ends() -> None:
    with begun("computes", "1000") as child:
        _, told = child.communicate(timeout=30)
    assert child.returncode == 70
    assert re.search(r"CRITICAL reco.watchdog a batch has not come back in 2 s\n.*ending with exit code 70\n", told)


def test_X23_a_compute_thread_that_ends_unasked_ends_the_process() -> None:
    killer = threading.Timer(20, lambda: child.kill())
    with begun("ends") as child:
        killer.start()
        _, told = child.communicate()
        killer.cancel()
    assert child.returncode == 70, told
    assert "no priority for a thread" in told
