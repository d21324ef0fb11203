"""Child process of test_changes_crash.py: makes one change again and again, killed at the 1st, 2nd, … file operation.

changing_child.py CHANGE TEMPLATE TARGET
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import memory

CHANGES = {
    "remove": lambda root: memory.remove_keys(root, memory.KeyPatterns(["1-3", "2-1*"])),
    "compact": memory.compact,
    "purge": lambda root: memory.purge(root, memory.KeyPatterns(["1-3", "2-2*"])),
    "gc": lambda root: memory.collect(root, keep=1, work=True),
    "rollback": lambda root: memory.roll_back(root, 1),
}
STEPS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def die_at(step: int) -> None:
    """Kill this process with SIGKILL just before its `step`-th operation that changes a directory or opens to write."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in STEPS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(change: str, template: Path, target: Path) -> None:
    step = 0
    while True:
        step += 1
        root = target / str(step)
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            die_at(step)
            CHANGES[change](root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{step - 1} {os.waitstatus_to_exitcode(status)}\n")
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
