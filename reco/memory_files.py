"""A memory that is named by a path and is not there: told before numpy and FAISS are loaded. Standard library only."""

from pathlib import Path


class NoMemoryError(Exception):
    """What `memory` itself says of such a path, in its words (a test compares them)."""

    code = "memory_not_found"


def check_memory(memory: str) -> None:
    """Refuse a path where no version of a memory can be; an address of a store is not looked at.

    Raises:
        NoMemoryError: there is no folder of manifests.
    """
    if "://" in memory:
        return
    try:
        (Path(memory) / "manifests").stat()
    except (FileNotFoundError, NotADirectoryError):
        raise NoMemoryError(f"{memory} holds no memory. Build one with `reco build`, or check the path.") from None
    except (OSError, ValueError):
        return  # whoever opens it says why it cannot
