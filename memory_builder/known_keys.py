"""Which keys are taken: a memory holds a key once, and the first row that has it keeps it. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from memory_builder.records import Rejected

DUPLICATE = "duplicate_key"
ALREADY_STORED = "already_stored"
EARLIER = "An earlier row of the corpus has this key."
_OTHER_PAIR = "The memory holds another image or caption under this key; it keeps what it has."
_SAME_PAIR = "The memory holds this pair already."


class StoredPair(NamedTuple):
    """What the memory holds under a key."""

    content_sha256: str
    caption: str


def compared(pair: StoredPair, stored: StoredPair) -> tuple[str, str]:
    """Code and detail of a row whose key is in the memory.

    They tell a corpus that was read again from another one whose keys happen to be the same.
    """
    return (ALREADY_STORED, _SAME_PAIR) if pair == stored else (DUPLICATE, _OTHER_PAIR)


class KnownKeys:
    """Keys of the memory as it was when the build began, and of the rows of the plan so far.

    Every row claims its key, stored or rejected: which row is stored never depends on where units begin and
    end, nor on what could be decoded. What is then told from a claimed key: `duplicate_key`, or, where the
    memory holds just this pair under it, `already_stored`.
    """

    def __init__(self, stored: Mapping[str, StoredPair]) -> None:
        self._stored = stored
        self._claimed: set[str] = set()

    def claim(self, key: str) -> bool:
        """Take a key for a row; False if an earlier row of the plan has it."""
        if key in self._claimed:
            return False
        self._claimed.add(key)
        return True

    def stored(self, key: str) -> StoredPair | None:
        """What the memory held under the key when the build began."""
        return self._stored.get(key)

    def agrees_with(self, keys: Iterable[str], rejected: Iterable[Rejected]) -> bool:
        """Whether a unit finished by an earlier run would end the same today, judged by its keys.

        Between two runs another build may have stored some of them, or the corpus may have changed before
        this unit.

        Args:
            keys: of the rows it stored.
            rejected: its other rows.
        """
        kept = set(keys)
        if any(key in self._claimed or key in self._stored for key in kept):
            return False
        for row in rejected:
            if row.code == ALREADY_STORED and (row.key not in self._stored or row.key in self._claimed):
                return False
            taken = row.key in self._claimed or row.key in self._stored or row.key in kept
            if row.code == DUPLICATE and not taken:
                return False
        return True

    def claim_all(self, keys: Iterable[str], rejected: Iterable[Rejected]) -> None:
        """Claim what a finished unit claimed."""
        self._claimed.update(keys)
        self._claimed.update(row.key for row in rejected)
