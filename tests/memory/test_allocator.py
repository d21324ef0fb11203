"""Freed memory goes back to the system, also where blocks in use lie between."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from memory import allocator
from memory.allocator import give_back

BLOCK, BLOCKS = 64_000, 2000  # below what glibc maps by itself


def own_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(allocator._trim is None, reason="the C library has no malloc_trim")
def test_pages_between_blocks_in_use_go_back():
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [library.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    kept = blocks[::10]
    for block in set(blocks).difference(kept):
        library.free(block)
    before = own_bytes()
    give_back()
    freed = before - own_bytes()
    for block in kept:
        library.free(block)
    assert freed > 0.5 * 0.9 * BLOCK * BLOCKS


def write_tables() -> None:
    """As a build writes its units: columns of small blobs, through a stream."""
    for _ in range(3):
        table = pa.table({"thumbnail": pa.array([b"x" * 1200] * 8192, pa.binary())})
        with pa.ipc.new_file(pa.BufferOutputStream(), table.schema) as writer:
            writer.write_table(table)


@pytest.mark.skipif(pa.default_memory_pool().backend_name == "system", reason="Arrow keeps nothing of its own")
def test_what_arrow_keeps_of_written_tables_goes_back():
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: write_tables(), range(2)))
        before = own_bytes()
        give_back()
        assert before - own_bytes() > 10e6


class Musl:
    """A C library without malloc_trim."""


@pytest.mark.parametrize("library", [Musl, OSError("no such library"), TypeError("a name is needed")])
def test_another_c_library_gives_nothing_back(library, monkeypatch):
    def loaded(name: None) -> object:
        if isinstance(library, Exception):
            raise library
        return library()

    monkeypatch.setattr(ctypes, "CDLL", loaded)
    monkeypatch.setattr(allocator, "_trim", trim := allocator._find_trim())
    assert trim is None
    give_back()


def test_glibc_is_asked_for_all_that_is_free(monkeypatch):
    asked = []
    monkeypatch.setattr(allocator, "_trim", asked.append)
    give_back()
    assert asked == [0]
