"""Child process of test_publish.py: commits versions while its parent counts, races or kills it.

committing_child.py crash TEMPLATE TARGET   die at the 1st, 2nd, … file operation of an addition
committing_child.py race ROOT ROUNDS NAME   commit one version per line of standard input
committing_child.py lock ROOT               hold the build lock until standard input ends
"""

import sys
from pathlib import Path

from conftest import commit, make_rows  # a script's own directory is on sys.path
from sudden_death import at_every_step

import memory

PARTS = [make_rows(12, seed=1), make_rows(9, seed=2)]  # made once, before the forks


def tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def add(root: Path) -> None:
    """A whole incremental commit: lock, new segment, new index generations, delete list, manifest, HEAD."""
    with memory.BuildLock(root):
        commit(root, PARTS, deletes=[4], parent=1)


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
        at_every_step(Path(first), Path(rest[0]), add)
    elif mode == "race":
        race(Path(first), int(rest[0]), rest[1])
    else:
        lock(Path(first))
