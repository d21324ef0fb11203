"""Keys and patterns that a person wrote, against the keys that are stored. Pure; standard library only."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memory.errors import SelectionInvalid

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class KeyPatterns:
    """What a change is to apply to.

    Attributes:
        patterns: keys, or patterns with `*`, `?` and `[seq]`, where `*` also crosses `/` and case counts. A pattern
            that is itself a stored key names that key alone.
        keys: taken literally, whatever they hold.

    Raises:
        SelectionInvalid: there are none, or one is empty.
    """

    patterns: Sequence[str] = ()
    keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.patterns and not self.keys:
            raise SelectionInvalid("no key was named: give keys, patterns such as 'photos/0*', or a file of keys")
        if not all((*self.patterns, *self.keys)):
            raise SelectionInvalid("an empty key was named; leave it out")

    @property
    def sha256(self) -> str:
        """Hash (hex) of all names, in any order."""
        names = sorted({name.encode("utf-8", "surrogatepass") for name in (*self.patterns, *self.keys)})
        return hashlib.sha256(b"\0".join(names)).hexdigest()

    @property
    def literal(self) -> bool:
        """Whether every name can only be a key: nothing else has to be looked at to find what is meant."""
        return not any(map(is_pattern, self.patterns))

    def match(self, stored: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Find what is meant, in one pass.

        Returns:
            The stored keys that are meant; and, in their order, the names that no stored key answers to.
        """
        names = dict.fromkeys((*self.patterns, *self.keys))
        globs = {name: re.compile(fnmatch.translate(name)) for name in self.patterns if is_pattern(name)}
        literal: set[str] = set()
        matched: dict[str, set[str]] = {name: set() for name in globs}
        for key in stored:
            if key in names:
                literal.add(key)
            for name, glob in globs.items():
                if glob.match(key):
                    matched[name].add(key)
        # a name that is a key is that key and no pattern: keys may hold brackets
        found = literal.union(*(keys for name, keys in matched.items() if name not in literal))
        unmatched = tuple(name for name in names if name not in literal and not matched.get(name))
        return frozenset(found), unmatched


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several keys."""
    return _MAGIC.search(name) is not None


def told(names: Iterable[str], most: int = 5) -> str:
    """Some names for a message: the first few, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(repr(name) for name in every[:most]) + more
