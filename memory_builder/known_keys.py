"""Which keys a memory holds, or holds no more, as a build begins. Pure, and the same for every unit of the build.

An upsert replaces what the memory holds under a key by another pair of that key; within a corpus the first still wins,
which units/admission.py sees to.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from memory import key_hash
from memory_builder.records import Rejected

DUPLICATE = "duplicate_key"
ALREADY_STORED = "already_stored"
REPEATED = "repeated"
REMOVED = "removed_earlier"
NO_FAULT = frozenset({ALREADY_STORED, REPEATED})  # what the row says is stored: nothing is to be mended
LASTING = frozenset(
    {DUPLICATE, ALREADY_STORED, REPEATED, REMOVED}
)  # told by the keys alone: reading such a row again tells the same
EARLIER = "An earlier row of the corpus has this key."
SAME_AS_EARLIER = "An earlier row of the corpus is the same pair."
TAKEN_OUT = "The item was removed from the memory and stays out; --restore-removed adds it again."
OTHER_PAIR = "The memory holds another image or caption under this key and keeps it; --upsert replaces it."
_SAME_PAIR = "The memory holds this pair already."


class StoredPair(NamedTuple):
    """What the memory holds under a key."""

    content_sha256: str
    caption: str


@dataclass(frozen=True)
class Rival:
    """The pair of which the memory holds the key that a row has, and whether the row may take its place."""

    stored: StoredPair
    upsert: bool

    def refusal(self, pair: StoredPair) -> tuple[str, str] | None:
        """Code and detail of the row; None if it takes the place of what is there.

        They tell a corpus that was read again from another one whose keys happen to be the same.
        """
        if pair == self.stored:
            return ALREADY_STORED, _SAME_PAIR
        return None if self.upsert else (DUPLICATE, OTHER_PAIR)


class KnownKeys:
    """Keys of the memory as it was when the build began; nothing of the build itself changes them.

    A row of a stored key is told `duplicate_key`, or, where the memory holds just this pair under it, `already_stored`;
    a row of a key that was taken out, `removed_earlier`. Neither is encoded.
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

    def rival(self, key: str) -> Rival | None:
        """What the memory held under the key when the build began."""
        stored = self._stored.get(key)
        return None if stored is None else Rival(stored, self._upsert)

    def is_removed(self, key: str) -> bool:
        """Whether the key was taken out of the memory and is to stay out."""
        return bool(self._removed) and key_hash(key) in self._removed

    def agrees_with(self, keys: Iterable[str], rejected: Iterable[Rejected]) -> bool:
        """Whether a unit finished by an earlier run would end the same today.

        Between two runs another build may have stored or removed some of its keys.

        Args:
            keys: of the rows it stored.
            rejected: its other rows.
        """
        own = set(keys)
        # An upsert's units are named after the version they grow: what was stored then is stored now.
        if any(self.is_removed(key) or self._refuses(key) for key in own):
            return False
        for row in rejected:
            if row.code == ALREADY_STORED and row.key not in self._stored:
                return False
            if row.detail == OTHER_PAIR:  # what the memory holds by now may be this very pair
                return False
            if row.code == REMOVED and not self.is_removed(row.key):
                return False
            if row.code == DUPLICATE and not (row.key in own or self._refuses(row.key)):
                return False
            own.add(row.key)
        return True

    def _refuses(self, key: str) -> bool:
        """Whether any pair of this key is refused for what the memory holds."""
        return key in self._stored and not self._upsert
