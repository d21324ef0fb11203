"""Where this host remembers which memories it has hashed, and copies those of object stores to.

The environment is read here, at the entry point.
"""

import os
from pathlib import Path


def stamp_directory() -> Path:
    """The user's cache directory for stamps."""
    from memory import default_stamp_directory

    return default_stamp_directory(os.environ)


def copy_directory() -> Path:
    """The user's cache directory for memories from object stores."""
    from memory import default_copy_directory

    return default_copy_directory(os.environ)
