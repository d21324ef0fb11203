"""What settings ask of the machine and of memory: most are defaults. Depends on cores; on memory only when asked.

Naming a setting must not load FAISS.
"""

import os

from models.cores import usable_cores


def decode_workers() -> int:
    """One core stays for the event loop and one for the encoder's own Python; at least one worker."""
    return max(1, usable_cores() - 2)


def inflight_pixels() -> int:
    """What the decoders take seven of a request's ten seconds for: each does 80 million of a JPEG's pixels a second."""
    return decode_workers() * 560_000_000


def stamps() -> str:
    """The memory's own default."""
    from memory import default_stamp_directory

    return str(default_stamp_directory(os.environ))


def remote_cache() -> str:
    """The memory's own default."""
    from memory import default_copy_directory

    return str(default_copy_directory(os.environ))


def schemes(text: str) -> tuple[str, ...]:
    """Those of object stores that a text names, as for the commands."""
    from memory.stores import named_schemes

    return named_schemes(text)
