"""Child process of test_changes_crash.py: makes one change again and again, killed at the 1st, 2nd, … file operation.

changing_child.py CHANGE TEMPLATE TARGET
"""

import sys
from pathlib import Path

from sudden_death import at_every_step

import memory

CHANGES = {
    "remove": lambda root: memory.remove_keys(root, memory.KeyPatterns(["1-3", "2-1*"])),
    "compact": memory.compact,
    "purge": lambda root: memory.purge(root, memory.KeyPatterns(["1-3", "2-2*"])),
    "gc": lambda root: memory.collect(root, keep=1, work=True),
    "rollback": lambda root: memory.roll_back(root, 1),
}


if __name__ == "__main__":
    name, template, target = sys.argv[1:]
    at_every_step(Path(template), Path(target), CHANGES[name])
