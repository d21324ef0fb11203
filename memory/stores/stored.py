"""Objects in a store: their state, their bytes, and which there are. fsspec and its packages for the schemes.

An object's state is its size and its entity tag; whoever planned with one reads bytes of that state or an error, never
those of another.
"""

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from memory.errors import ObjectChanged, ObjectMissing, StoreRefused, StoreUnavailable
from memory.stores.address import SCHEMES

_BLOCK_BYTES: Final = 4 << 20  # of one request where an object is read on
_BLOCKS: Final = 6  # kept of an open object
_TAGS: Final = ("ETag", "etag", "generation", "blob_id", "sha256", "LastModified", "last_modified", "mtime", "created")
# What a store may be told beside the address; its own settings come from the environment.
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}},
}
_AWAY: Final = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ClientConnectorError")
_NO_CREDENTIALS: Final = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")


class ObjectState(NamedTuple):
    """Size in bytes, and what the store calls this content of the object."""

    size: int
    tag: str


@dataclass(frozen=True)
class StoredObject:
    """One object by its address, with the names of a path. Safe to share, and to send to another process."""

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name up to its extension."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The extension, dot included."""
        return self._path.suffix

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.address.partition("://")[2])

    @property
    def folder(self) -> "StoredFolder":
        """What it lies in."""
        return StoredFolder(self.address.rpartition("/")[0])

    def state(self) -> ObjectState:
        """Its state now.

        Raises:
            ObjectMissing, StoreRefused, StoreUnavailable.
        """
        with _told(self.address):
            found = _files_of(self.address).info(self.address)
        if found["type"] != "file":
            raise ObjectMissing(f"{self.address} is a folder, not an object")
        return _state(self.address, found)

    def open(self) -> "StoredReader":
        """Open it as it is now, to be read on in large blocks, of which the next is fetched meanwhile.

        Raises:
            ObjectMissing, StoreRefused, StoreUnavailable.
        """
        with _told(self.address):
            files = _files_of(self.address)
            options = {"block_size": _BLOCK_BYTES, "cache_type": "background", "cache_options": {"maxblocks": _BLOCKS}}
            return StoredReader(self.address, files.open(self.address, "rb", **options))

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop`, or to the object's end, in one request.

        Raises:
            ObjectMissing, StoreRefused, StoreUnavailable.
        """
        try:
            with _told(self.address):
                return bytes(_files_of(self.address).cat_file(self.address, start=start, end=stop))
        except StoreUnavailable:
            if self.state().size <= start:  # a store refuses a range that begins at the end
                return b""
            raise


@dataclass(frozen=True)
class StoredFolder:
    """What addresses begin with, up to a slash."""

    address: str
    _listed: dict[str, ObjectState] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, relative: str) -> StoredObject:
        return StoredObject(f"{self.address}/{relative}")

    def objects(self) -> dict[str, ObjectState]:
        """All objects in it and in its folders, by name relative to it; listed once.

        Raises:
            StoreRefused, StoreUnavailable.
        """
        if not self._listed:
            with _told(self.address):
                files = _files_of(self.address)
                root = f"{files._strip_protocol(self.address)}/"
                try:
                    found = files.find(self.address, detail=True)
                except FileNotFoundError:
                    found = {}
            names = {path.removeprefix(root): entry for path, entry in found.items() if path.startswith(root)}
            self._listed.update({name: _state(self.address, entry) for name, entry in names.items()})
        return self._listed

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "_listed": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class StoredReader(io.RawIOBase):
    """An opened object. For one thread."""

    def __init__(self, address: str, file: Any) -> None:
        super().__init__()
        self._address, self._file, self._position = address, file, 0
        self.state = _state(address, file.details)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.state.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read_at(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes at a place, fewer at the end; the position of other reads stays.

        Raises:
            ObjectChanged, ObjectMissing, StoreRefused, StoreUnavailable.
        """
        if offset >= self.state.size:
            return b""
        with _told(self._address):
            self._file.seek(offset)
            return bytes(self._file.read(min(size, self.state.size - offset)))


def matched(pattern: str) -> list[StoredObject]:
    """The objects whose addresses match `*`, `?`, `[]` and `**`, sorted; an address without these is not asked for.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    if not set(pattern) & set("*?["):
        return [StoredObject(pattern)]
    scheme = pattern.partition("://")[0]
    with _told(pattern):
        found = _files_of(pattern).glob(pattern, detail=True)
    return [StoredObject(f"{scheme}://{path}") for path in sorted(found) if found[path]["type"] == "file"]


def _files_of(address: str) -> Any:
    return _files(address.partition("://")[0])


@functools.cache
def _files(scheme: str) -> Any:
    """fsspec's way to a store; one a process."""
    try:
        import fsspec

        # A listing that is kept would hide what changes in the store.
        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        package = SCHEMES.get(scheme, "fsspec")
        extra = "pip install 'reco-clip[remote]'" if scheme == "s3" else f"pip install {package}"
        raise StoreRefused(f"{scheme}:// needs a package that is not installed: {extra}") from error


def _state(address: str, found: dict[str, Any]) -> ObjectState:
    tag = next((str(found[name]) for name in _TAGS if found.get(name)), "")
    if not tag or found.get("size") is None:
        raise StoreRefused(f"{address}: the store tells neither a tag nor a time, so no change would be noticed")
    return ObjectState(int(found["size"]), tag.strip('"'))


@contextmanager
def _told(address: str) -> Iterator[None]:
    """The errors of many packages as ours."""
    try:
        yield
    except (ObjectMissing, ObjectChanged, StoreRefused, StoreUnavailable):
        raise
    except FileNotFoundError as error:
        raise ObjectMissing(f"{address} does not exist") from error
    except PermissionError as error:
        raise StoreRefused(f"{address} may not be read with these credentials") from error
    except Exception as error:
        kind = type(error).__name__
        if kind == "FileExpired":
            raise ObjectChanged(f"{address} was replaced while it was read") from error
        if kind in _NO_CREDENTIALS:
            raise StoreRefused(f"{address}: no credentials in the environment or the store's configuration") from error
        told = "does not answer" if kind in _AWAY else f"{kind}: {(str(error).splitlines() or [''])[0][:200]}"
        raise StoreUnavailable(f"the store of {address} failed ({told}). Give the same command again") from error
