"""Whether a memory can be made or grown at a place: asked before work begins. Standard library only."""

import os
import shutil
from pathlib import Path

from memory.format.durable import keep_name
from memory.format.work_files import WORK
from memory_builder.errors import OutputError

# A build writes its work folder first: what has one is a build to be continued.
_MARKS = ("manifests", WORK)
_COPIES = 3  # of each embedding: in its unit, its segment and its index


def prepare_output(root: Path) -> None:
    """Make the directory, or accept the one that is there.

    Raises:
        OutputError: it is a file, holds something else, or cannot be written.
        memory.WriteFailed: an fsync failed.
    """
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is a file. Name a new directory, or that of a memory to grow.")
    try:
        new = [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in root.iterdir()}
    except OSError as error:
        raise OutputError(f"{root} cannot be made or listed: {error}.") from error
    if entries and not entries.intersection(_MARKS):
        raise OutputError(f"{root} is not empty and is no memory. Name a new directory, or that of a memory to grow.")
    if not os.access(root, os.W_OK | os.X_OK):
        raise OutputError(f"{root} cannot be written to. Change its permissions, or name another directory.")
    for folder in reversed(new):
        keep_name(folder)


def check_space(root: Path, rows: int, embed_dim: int) -> None:
    """Refuse a build that cannot fit: what the embeddings alone take, twice 2·D bytes a row and copy.

    Raises:
        OutputError: naming both figures.
    """
    needed = rows * embed_dim * 4 * _COPIES
    free = shutil.disk_usage(root).free
    if needed > free:
        raise OutputError(
            f"{rows:,} rows need at least {needed / 1e9:.1f} GB while they are built, and {root} has "
            f"{free / 1e9:.1f} GB free. Free some space, or build on another disk."
        )
