"""A change made again and again in forks of a child process, killed (SIGKILL) before its 1st, 2nd, … file operation."""

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
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


def deaths(
    template: Path, target: Path, change: Callable[[Path], object], *, every: int = 1
) -> Iterator[tuple[Path, int]]:
    """Have a fork change a copy of `template` and die at its `every`-th, 2 `every`-th, … step, until one lives.

    Yields:
        The copy as it was left, in `target` under the number of the step, and how the fork ended: -SIGKILL, or the exit
        code of the last.
    """
    step = 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += every
        root = target / str(step)
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            os._exit(_lived(step, change, root))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        yield root, code


def _lived(step: int, change: Callable[[Path], object], root: Path) -> int:
    """The exit code of a fork that was not killed: an error must not run on in the parent's program."""
    try:
        die_at(step)
        change(root)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def at_every_step(template: Path, target: Path, change: Callable[[Path], object]) -> None:
    """Leave in `target`/1, /2, … what a death at that step makes of a copy of `template`.

    Tells on standard output how many steps there are, and the exit code of the change that was let live.
    """
    codes = [code for _, code in deaths(template, target, change)]
    sys.stdout.write(f"{len(codes) - 1} {codes[-1]}\n")
