"""Whether a directory that something will be written to can be: asked before hours of work, not after. os only."""

import os
from pathlib import Path


def hindrance(directory: Path) -> str | None:
    """Why nothing can be written to a directory that may have to be made; None if it can."""
    if directory.exists() and not directory.is_dir():
        return f"{directory} is a file"
    nearest = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return f"{directory} cannot be made: {nearest} cannot be written to"
    return None
