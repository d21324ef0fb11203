"""Defaults of settings that depend on the machine. Depends on cores; on memory only when one is asked for.

Naming a setting must not load FAISS.
"""

import os

from models.cores import usable_cores


def decode_workers() -> int:
    """One core stays for the event loop and one for the encoder's own Python; at least one worker."""
    return max(1, usable_cores() - 2)


def stamps() -> str:
    """The memory's own default."""
    from memory import default_stamp_directory

    return str(default_stamp_directory(os.environ))


def remote_cache() -> str:
    """The memory's own default."""
    from memory import default_copy_directory

    return str(default_copy_directory(os.environ))
