"""Whether a directory that something will be written to can be: asked before hours of work. Standard library only."""

import tempfile
from pathlib import Path


def hindrance(directory: Path) -> str | None:
    """Why nothing can be written to a directory that may have to be made; None if it can."""
    if directory.exists() and not directory.is_dir():
        return f"{directory} is a file"
    nearest = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    try:  # permissions do not tell it: root has them all, and writes neither to /proc nor to what is mounted read-only
        tempfile.TemporaryDirectory(dir=nearest, prefix=".writable-").cleanup()
    except OSError:
        return f"{directory} cannot be made: {nearest} cannot be written to"
    return None
