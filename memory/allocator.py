"""Giving freed memory back to the system: what the C library keeps after large blocks came and went among small ones,
and what Arrow keeps of tables that were written.

pyarrow only. It changes no contents and no results, only what the system counts as ours.
"""

import ctypes
from collections.abc import Callable

import pyarrow as pa


def _find_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where the C library is another."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim


_trim = _find_trim()


def give_back() -> None:
    """Return freed pages, those between blocks in use too. Takes milliseconds, in which other threads may wait."""
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
