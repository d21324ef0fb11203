"""A change made again and again in forks of a child process, killed (SIGKILL) before its 1st, 2nd, … file operation."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What changes a directory. Reads and fsyncs lie between two of these: killed there, it leaves the same files.
STEPS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def die_at(step: int) -> None:
    """Kill this process just before its `step`-th operation that changes a directory or opens a file to write."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in STEPS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def at_every_step(template: Path, target: Path, change: Callable[[Path], object]) -> None:
    """Leave in `target`/1, /2, … what a death at that step makes of a copy of `template`.

    Tells on standard output how many steps there are, and the exit code of the change that was let live.
    """
    step = 0
    while True:
        step += 1
        root = target / str(step)
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            die_at(step)
            change(root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{step - 1} {os.waitstatus_to_exitcode(status)}\n")
            return
