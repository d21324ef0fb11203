"""Child process of test_publish.py: commits versions while its parent counts, races or kills it.

committing_child.py crash TEMPLATE TARGET   die at the 1st, 2nd, … file operation of an addition
committing_child.py race ROOT ROUNDS NAME   commit one version per line of standard input
committing_child.py lock ROOT               hold the build lock until standard input ends
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from conftest import commit, make_rows  # a script's own directory is on sys.path

import memory

# What changes a directory. Reads and fsyncs lie between two of these: killed there, it leaves the same files.
STEPS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
PARTS = [make_rows(12, seed=1), make_rows(9, seed=2)]  # made once, before the forks


def tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def add(root: Path, parent: int) -> None:
    """A whole incremental commit: lock, new segment, new index generations, delete list, manifest, HEAD."""
    with memory.BuildLock(root):
        commit(root, PARTS, deletes=[4], parent=parent)


def die_at(step: int, root: Path) -> None:
    """Kill this process with SIGKILL just before its `step`-th file operation below `root`."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in STEPS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if changes and str(arguments[0]).startswith(str(root)):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def crash(template: Path, target: Path) -> None:
    step = 0
    while True:
        step += 1
        root = target / str(step)
        shutil.copytree(template, root)
        child = os.fork()
        if child == 0:
            die_at(step, root)
            add(root, parent=1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            tell(f"{step - 1} {os.waitstatus_to_exitcode(status)}")
            return


def race(root: Path, rounds: int, name: str) -> None:
    for version in range(rounds):
        record = memory.read_manifest(root, 1)
        contents = memory.Contents(
            encoder=record.encoder,
            encoded_with=record.encoded_with,
            segments=record.segments,
            indexes=record.indexes,
            sources={"builder": name},
            parent=version + 1,
        )
        tell("ready")
        sys.stdin.readline()
        try:
            memory.publish(root, contents)
            tell("won")
        except memory.VersionTaken:
            tell("version_taken")


def lock(root: Path) -> None:
    with memory.BuildLock(root):
        tell("locked")
        sys.stdin.read()


if __name__ == "__main__":
    mode, first, *rest = sys.argv[1:]
    if mode == "crash":
        crash(Path(first), Path(rest[0]))
    elif mode == "race":
        race(Path(first), int(rest[0]), rest[1])
    else:
        lock(Path(first))
