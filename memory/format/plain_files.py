"""Opening what a manifest names: plain files below the memory, never through a symlink.

Standard library and errors. The memory's own directory may be a symlink; nothing below it may.
"""

import os
import stat
from pathlib import Path, PurePosixPath

from memory.errors import FileMissing, ManifestInvalid


def open_plain(root: Path, relative: str) -> int:
    """Open a file for reading.

    Args:
        root: the memory's directory.
        relative: path below it, of names only.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        FileMissing: it does not exist.
        ManifestInvalid: it, or a directory on the way, is a symlink, FIFO, device or otherwise not plain.
    """
    path = PurePosixPath(relative)
    assert not path.is_absolute(), relative
    assert not {"..", "."} & set(path.parts), relative
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[:-1]:
            descriptor = _step(descriptor, part, os.O_DIRECTORY)
        # O_NONBLOCK: a FIFO would otherwise wait for a writer
        descriptor = _step(descriptor, path.parts[-1], os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise FileMissing(relative, "is named by the manifest and does not exist; restore it") from error
    except OSError as error:
        raise ManifestInvalid(f"{relative} cannot be opened as a plain file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ManifestInvalid(f"{relative} is not a plain file")
    return descriptor


def _step(directory: int, name: str, flags: int) -> int:
    """Open `name` inside `directory`, which is closed whatever happens."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    finally:
        os.close(directory)
