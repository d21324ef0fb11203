"""Child process of test_checkpoint.py: saves a fusion where another one lies.

saving_child.py crash TEMPLATE TARGET   killed at the 1st, 2nd, … file operation
saving_child.py turns DIRECTORY         each of two again and again, until it is killed; one line when both were saved
"""

import itertools
import sys
from pathlib import Path

from sudden_death import at_every_step
from test_checkpoint import ENCODER, fusion_of  # a script's own directory is on sys.path

from models.checkpoint import save_fusion


def save(directory: Path, seed: int = 2) -> None:
    save_fusion(directory, fusion_of(seed), ENCODER, {"seed": seed})


if __name__ == "__main__":
    mode, first, *rest = sys.argv[1:]
    if mode == "crash":
        at_every_step(Path(first), Path(rest[0]), save)
    else:
        for turn in itertools.count():
            save(Path(first), 1 + turn % 2)
            if turn == 1:
                sys.stdout.write("begun\n")
                sys.stdout.flush()
