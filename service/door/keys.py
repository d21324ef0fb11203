"""API keys: named, scoped, kept as SHA-256 of random secrets. Standard library only.

A line of a keys file is a key:   NAME SCOPES sha256:HEX [rate=ITEMS_PER_S] [concurrency=REQUESTS]   and # begins a
comment, at the start of a line or after white space: a key that is given as it is may hold one. A key is `reco_`, 256
random bits and a checksum, so that scanners find a leaked one and a typo is told apart from a wrong key. SHA-256
without a salt is enough for secrets that nobody can guess.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from service.settings import LEAST_RATE, Settings, SettingsError

KeyScope = Literal["use", "operator"]
SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)

PREFIX: Final = "reco_"
_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_BYTES: Final = 32
_SECRET_LENGTH, _CHECK_LENGTH = 43, 6  # of 256 and 32 bits in base 62
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_PLAIN = re.compile(r"[\x21-\x7e]{24,200}")
_MAX_FILE_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Key:
    """One key, as it is kept.

    Attributes:
        name: for logs and people; not secret.
        scopes: what it may do.
        digest: SHA-256 of the secret.
        rate: items a second; None is the service's own limit.
        concurrency: requests under way; None is the service's own limit.
    """

    name: str
    scopes: frozenset[KeyScope]
    digest: bytes
    rate: float | None = None
    concurrency: int | None = None


class KeyRing:
    """All keys of a service."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    @property
    def names(self) -> frozenset[str]:
        """Of all keys."""
        return frozenset(key.name for key in self._keys)

    def opens(self, scope: KeyScope) -> bool:
        """Whether any key has this scope."""
        return any(scope in key.scopes for key in self._keys)

    def find(self, secret: bytes) -> Key | None:
        """The key of a secret; takes as long for any wrong one."""
        digest = hashlib.sha256(secret).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def read_keys(settings: Settings) -> KeyRing:
    """The keys of `RECO_API_KEYS` and `RECO_API_KEYS_FILE`; none is an empty ring.

    Raises:
        SettingsError: naming the line, never its contents; a file without a key is an error, for a truncated one
            must not open the service to everybody.
    """
    keys: list[Key] = []
    if settings.api_keys is not None:
        lines = re.split(r"[\n;]", settings.api_keys.get_secret_value())
        keys += _parse(lines, "RECO_API_KEYS", plain=True)
    if settings.api_keys_file is not None:
        path = Path(settings.api_keys_file)
        try:
            with path.open(encoding="utf-8-sig") as file:  # editors of one system begin files with a mark
                text = file.read(_MAX_FILE_CHARACTERS + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise SettingsError(f"RECO_API_KEYS_FILE: {path} cannot be read: {reason}") from None
        if len(text) > _MAX_FILE_CHARACTERS:  # a part of it would shut out who stands in the rest
            raise SettingsError(f"RECO_API_KEYS_FILE: {path} has more than {_MAX_FILE_CHARACTERS} characters")
        keys += _parse(text.splitlines(), "RECO_API_KEYS_FILE", plain=False)
    name, count = Counter(key.name for key in keys).most_common(1)[0] if keys else ("", 0)
    if count > 1:
        raise SettingsError(f"two keys have the name {name}; a name stands for one key in logs and limits")
    by_digest: dict[bytes, Key] = {}
    for key in keys:
        if (first := by_digest.setdefault(key.digest, key)) is not key:  # only one could ever be found
            raise SettingsError(f"the keys {first.name} and {key.name} are one secret; make another: `reco key new`")
    return KeyRing(keys)


def new_key() -> str:
    """A new secret: `reco_`, 43 characters of secret, 6 of checksum."""
    secret = _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_LENGTH)
    return f"{PREFIX}{secret}{_checksum(secret)}"


def is_intact(key: str) -> bool:
    """Whether a key of ours has its checksum: False is a typo or a cut."""
    secret, check = key[len(PREFIX) : -_CHECK_LENGTH], key[-_CHECK_LENGTH:]
    return key.startswith(PREFIX) and len(secret) == _SECRET_LENGTH and check == _checksum(secret)


def key_line(name: str, scopes: Sequence[KeyScope], secret: str) -> str:
    """The line of a keys file for a secret.

    Raises:
        SettingsError: the name is none.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError("a key's name has 1 to 64 letters, digits, dots, dashes or underscores")
    return f"{name} {','.join(scopes)} sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _parse(lines: Sequence[str], source: str, *, plain: bool) -> list[Key]:
    keys = []
    for number, line in enumerate(lines, start=1):
        fields = _COMMENT.sub("", line).split()
        if not fields:
            continue
        if plain and len(fields) == 1:
            fields = [f"key-{number}", "use", fields[0]]
        keys.append(_key(fields, f"{source}, entry {number}" if plain else f"{source}, line {number}", plain=plain))
    if not keys:
        raise SettingsError(f"{source} holds no key; make one with `reco key new`, or unset it")
    return keys


def _key(fields: Sequence[str], place: str, *, plain: bool) -> Key:
    if len(fields) < 3:
        raise SettingsError(f"{place}: expected NAME SCOPES sha256:HEX, as `reco key new` prints it")
    name, scopes, secret = fields[:3]
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{place}: a name has 1 to 64 letters, digits, dots, dashes or underscores")
    named = [scope for scope in SCOPES if scope in scopes.split(",")]
    if len(named) != len(scopes.split(",")):
        raise SettingsError(f"{place}: scopes are {' and '.join(SCOPES)}, separated by a comma")
    limits = _limits(fields[3:], place)
    return Key(
        name, frozenset(named), _digest(secret, place, plain=plain), limits["rate"], _whole(limits["concurrency"])
    )


def _digest(secret: str, place: str, *, plain: bool) -> bytes:
    hashed = _HASH.fullmatch(secret)
    if hashed:
        return bytes.fromhex(hashed[1])
    if not plain:
        raise SettingsError(f"{place}: the third field is sha256: and 64 hexadecimal digits, never the key itself")
    if not _PLAIN.fullmatch(secret):
        raise SettingsError(f"{place}: a key has 24 to 200 visible ASCII characters; make one with `reco key new`")
    if secret.startswith(PREFIX) and not is_intact(secret):
        raise SettingsError(f"{place}: the key's checksum is wrong: it is mistyped or cut")
    return hashlib.sha256(secret.encode()).digest()


def _limits(words: Sequence[str], place: str) -> dict[str, float | None]:
    limits: dict[str, float | None] = {"rate": None, "concurrency": None}
    for word in words:
        name, _, number = word.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if name not in limits or not LEAST_RATE <= value < 1e9 or (name == "concurrency" and value != int(value)):
            raise SettingsError(f"{place}: limits are rate=ITEMS_PER_S and concurrency=REQUESTS, numbers above 0")
        if limits[name] is not None:
            raise SettingsError(f"{place}: {name} is given twice")
        limits[name] = value
    return limits


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
