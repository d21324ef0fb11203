"""The work folder of a memory: every name that is written there. Beside versions, no part of any. Imports nothing.

Whoever writes a new file there names it here, and says whether it may hold a key: a purge looks into those that do, and
searches the bytes of any that has no name here.
"""

from pathlib import PurePath
from typing import Final

WORK: Final = "work"
LOCK: Final = f"{WORK}/lock"
WORKERS: Final = f"{WORK}/workers"  # held, shared, by workers that write units without that lock

# Units of a build that no version holds yet, a folder each; a purge deletes one that names the key.
UNITS: Final = f"{WORK}/units"
UNIT_IMAGE: Final = "image.f16.npy"
UNIT_TEXT: Final = "text.f16.npy"
UNIT_ITEMS: Final = "items.arrow"
UNIT_REJECTED: Final = "rejected.jsonl"  # as REJECTED, of one unit
UNIT_DESCRIPTION: Final = "unit.json"
UNIT_BEGUN: Final = "begun-{}.arrow"  # images of a unit that is not finished; nobody can tell whose they are
UNIT_FILES: Final = (UNIT_IMAGE, UNIT_TEXT, UNIT_ITEMS, UNIT_REJECTED, UNIT_DESCRIPTION, UNIT_BEGUN.format("*"))

# Lists of the last build: a JSON object a line, with one `key`; a purge takes out the lines of its keys.
REJECTED: Final = f"{WORK}/rejected.jsonl"
NEAR_DUPLICATES: Final = f"{WORK}/near_duplicates.jsonl"
KEY_LISTS: Final = (REJECTED, NEAR_DUPLICATES)

# No key is in these.
BUILD_LOG: Final = f"{WORK}/build-log.jsonl"
INDEX_TIMES: Final = f"{WORK}/index-{{}}.json"  # of a modality
KEYLESS: Final = (LOCK, WORKERS, BUILD_LOG, INDEX_TIMES.format("*"))


def is_known(path: str) -> bool:
    """Whether a file below the work folder, relative to the memory, is one that a purge knows what to do about."""
    patterns = (*KEY_LISTS, *KEYLESS, *(f"{UNITS}/*/{name}" for name in UNIT_FILES))
    return any(PurePath(path).match(pattern) for pattern in patterns)
