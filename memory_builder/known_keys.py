"""Which keys are taken: a memory holds a key once, and the first row that has it keeps it. Pure.

An upsert replaces what the memory holds under a key by another pair of that key; within a corpus the first still wins.
"""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from memory import key_hash
from memory_builder.records import Rejected

DUPLICATE = "duplicate_key"
ALREADY_STORED = "already_stored"
REMOVED = "removed_earlier"
EARLIER = "An earlier row of the corpus has this key."
TAKEN_OUT = "The item was removed from the memory and stays out; --restore-removed adds it again."
_OTHER_PAIR = "The memory holds another image or caption under this key and keeps it; --upsert replaces it."
_SAME_PAIR = "The memory holds this pair already."


class StoredPair(NamedTuple):
    """What the memory holds under a key."""

    content_sha256: str
    caption: str


class KnownKeys:
    """Keys of the memory as it was when the build began, and of the rows of the plan so far.

    Every row claims its key, stored or rejected: which row is stored never depends on where units begin and
    end, nor on what could be decoded. What is then told from a claimed key: `duplicate_key`, or, where the
    memory holds just this pair under it, `already_stored`; of a key that was taken out, `removed_earlier`.
    """

    def __init__(
        self, stored: Mapping[str, StoredPair], *, removed: Set[bytes] = frozenset(), upsert: bool = False
    ) -> None:
        """Begin with what the memory holds.

        Args:
            stored: by key, of the items that are alive.
            removed: hashes (memory.key_hash) of the keys that stay out.
            upsert: another pair of a stored key replaces it.
        """
        self._stored = stored
        self._removed = removed
        self._upsert = upsert
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

    def is_removed(self, key: str) -> bool:
        """Whether the key was taken out of the memory and is to stay out."""
        return bool(self._removed) and key_hash(key) in self._removed

    def refusal(self, pair: StoredPair, stored: StoredPair) -> tuple[str, str] | None:
        """Code and detail of a row whose key is in the memory; None if it takes the place of what is there.

        They tell a corpus that was read again from another one whose keys happen to be the same.
        """
        if pair == stored:
            return ALREADY_STORED, _SAME_PAIR
        return None if self._upsert else (DUPLICATE, _OTHER_PAIR)

    def agrees_with(self, keys: Iterable[str], rejected: Iterable[Rejected]) -> bool:
        """Whether a unit finished by an earlier run would end the same today, judged by its keys.

        Between two runs another build may have stored some of them, or the corpus may have changed before
        this unit.

        Args:
            keys: of the rows it stored.
            rejected: its other rows.
        """
        kept = set(keys)
        # An upsert's units are named after the version they grow: what was stored then is stored now.
        if any(key in self._claimed or self.is_removed(key) or self._refuses(key) for key in kept):
            return False
        for row in rejected:
            if row.code == ALREADY_STORED and (row.key not in self._stored or row.key in self._claimed):
                return False
            if row.code == REMOVED and not self.is_removed(row.key):
                return False
            taken = row.key in self._claimed or row.key in kept or self._refuses(row.key)
            if row.code == DUPLICATE and not taken:
                return False
        return True

    def _refuses(self, key: str) -> bool:
        """Whether any pair of this key is refused for what the memory holds."""
        return key in self._stored and not self._upsert

    def claim_all(self, keys: Iterable[str], rejected: Iterable[Rejected]) -> None:
        """Claim what a finished unit claimed."""
        self._claimed.update(keys)
        self._claimed.update(row.key for row in rejected)
