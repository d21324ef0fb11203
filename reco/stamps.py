"""Where this host remembers which memories it has hashed already; the environment is read here, at the entry point."""

import os
from pathlib import Path


def stamp_directory() -> Path:
    """The user's cache directory for stamps."""
    from memory import default_stamp_directory

    return default_stamp_directory(os.environ)
