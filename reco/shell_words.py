"""Paths in commands that are printed to be copied: as a shell takes them. Standard library only."""

import shlex


def shell(*words: object) -> str:
    """Words, each quoted where it must be: `team/Läden & Äpfel` is one argument."""
    return shlex.join(map(str, words))
