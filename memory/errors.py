"""Everything the memory refuses, each with a stable code. Imports the standard library only.

MemoryStoreError
├── MemoryNotFound        memory_not_found      no manifest in that directory
├── VersionNotFound       version_not_found     no such version in this memory
├── ManifestInvalid       manifest_invalid      breaks the format, or names no plain file
├── MemoryFileError       (path)                a file the manifest names is not what the manifest says
│   ├── FileMissing       file_missing
│   ├── ShardSizeMismatch shard_size_mismatch
│   ├── ShardHashMismatch shard_hash_mismatch
│   ├── SegmentInvalid    segment_invalid       rows, columns or dtype differ from the manifest
│   └── ShardInvalid      shard_invalid         index type, dimension, metric or vectors differ
├── EncoderMismatch       encoder_mismatch      built with another encoder
├── RowsInvalid           rows_invalid          refused before anything is written
├── IndexOptionsInvalid   index_options_invalid no index is as it is asked for
├── GpuSearchUnavailable  gpu_search_unavailable  a GPU that was asked for cannot search this memory
├── VersionTaken          version_taken         another builder committed first
├── Locked                locked                another builder is at work
├── WriteFailed           write_failed          disk full, I/O error, failed fsync: fatal, never retried
├── MemoryClosed          memory_closed
├── MemoryUnavailable     memory_unavailable    the server that keeps it does not answer: ask again
├── BackendRefused        backend_refused       that server, or what talks to it, says no
├── StoreRefused          store_refused         an object store that is not allowed, or that says no
├── StoreUnavailable      store_unavailable     it does not answer: ask again
├── ObjectMissing         object_missing        no such object in it
├── ObjectChanged         object_changed        it was replaced while it was read
├── ItemNotFound          item_not_found        an id outside the memory
├── KeyNotFound           key_not_found         a key or pattern that no item has, or ever had
├── KeyTaken              key_taken             an item has this key, with another image or caption
├── SelectionInvalid      selection_invalid     what a change is to apply to cannot be told
├── NothingLeft           nothing_left          a change that would leave a memory without an item
├── ReceiptInvalid        receipt_invalid       the record of a purge was edited or damaged
└── QueryError
    ├── QueryShapeError   query_shape
    └── QueryValueError   query_value           not finite, or not unit norm
"""

# Each is named after what happened; the tree above says that they are errors.
# ruff: noqa: N818

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class MemoryStoreError(Exception):
    """Base of all refusals of the memory; `code` is stable and safe to show to a client."""

    code: ClassVar[str] = "memory_error"


class MemoryNotFound(MemoryStoreError):
    """The directory holds no committed version."""

    code = "memory_not_found"


class VersionNotFound(MemoryStoreError):
    """The memory exists, the version asked for does not."""

    code = "version_not_found"


class ManifestInvalid(MemoryStoreError):
    """The manifest cannot be trusted: nothing it names is opened."""

    code = "manifest_invalid"


class MemoryFileError(MemoryStoreError):
    """A file named by the manifest is not what the manifest says."""

    code = "memory_file_error"

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = str(path)


class FileMissing(MemoryFileError):
    """A file named by the manifest does not exist."""

    code = "file_missing"


class ShardSizeMismatch(MemoryFileError):
    """A file of a segment, index or delete list has another size than committed."""

    code = "shard_size_mismatch"


class ShardHashMismatch(MemoryFileError):
    """A file of a segment, index or delete list has other bytes than committed."""

    code = "shard_hash_mismatch"


class SegmentInvalid(MemoryFileError):
    """A segment or delete list has other rows, columns or dtype than the manifest says."""

    code = "segment_invalid"


class TooManyOpenFiles(MemoryStoreError):
    """The system lets this process open no more files; nothing is wrong with the memory."""

    code = "too_many_open_files"


class ShardInvalid(MemoryFileError):
    """A FAISS file has another type, dimension, metric or other vectors than its segment."""

    code = "shard_invalid"


class EncoderMismatch(MemoryStoreError):
    """The memory was built with another encoder; searching it would give plausible nonsense."""

    code = "encoder_mismatch"


class RowsInvalid(MemoryStoreError):
    """Rows refused before writing: wrong shape or dtype, not finite, not unit norm."""

    code = "rows_invalid"


class IndexOptionsInvalid(MemoryStoreError):
    """No index can be what its options ask for: a factory of another form, a budget that nothing fits."""

    code = "index_options_invalid"


class GpuSearchUnavailable(MemoryStoreError):
    """A GPU was asked for, and cannot search this memory."""

    code = "gpu_search_unavailable"


class VersionTaken(MemoryStoreError):
    """Another builder committed a version since this one started."""

    code = "version_taken"


class Locked(MemoryStoreError):
    """Another process holds the memory open for writing."""

    code = "locked"


class WriteFailed(MemoryStoreError):
    """A write or fsync failed. The bytes on disk are unknown: start again with new files, never retry."""

    code = "write_failed"


class MemoryClosed(MemoryStoreError):
    """The memory was used after `close()`."""

    code = "memory_closed"


class MemoryUnavailable(MemoryStoreError):
    """The server that keeps the memory does not answer in time; it may when asked again."""

    code = "memory_unavailable"


class BackendRefused(MemoryStoreError):
    """The server that keeps the memory says no, or there is no way to talk to it: asking again is no help."""

    code = "backend_refused"


class StoreRefused(MemoryStoreError):
    """An object store that nobody allowed, that refuses, or that cannot be spoken to: asking again is no help."""

    code = "store_refused"


class StoreUnavailable(MemoryStoreError):
    """An object store does not answer, or broke off; it may when asked again."""

    code = "store_unavailable"


class ObjectMissing(MemoryStoreError):
    """An object store has no such object."""

    code = "object_missing"


class ObjectChanged(MemoryStoreError):
    """An object was replaced while it was read."""

    code = "object_changed"


class ItemNotFound(MemoryStoreError):
    """An id outside the memory."""

    code = "item_not_found"


class KeyNotFound(MemoryStoreError):
    """A key or pattern that no item has, or ever had."""

    code = "key_not_found"


class KeyTaken(MemoryStoreError):
    """Items have these keys, with another image or caption."""

    code = "key_taken"

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"{len(keys)} keys are stored with another image or caption; nothing was changed")
        self.keys = keys


class SelectionInvalid(MemoryStoreError):
    """What a change is to apply to cannot be told: no keys, a file of another form, a number out of range."""

    code = "selection_invalid"


class NothingLeft(MemoryStoreError):
    """A change that would leave a memory without an item; it was not made."""

    code = "nothing_left"


class ReceiptInvalid(MemoryStoreError):
    """The record of a purge is not as it was written, so that purge cannot be finished."""

    code = "receipt_invalid"


class QueryError(MemoryStoreError):
    """A search call this memory cannot answer."""

    code = "query_error"


class QueryShapeError(QueryError):
    """Queries are not (B, D), D is another one, k is negative, or the modality is unknown."""

    code = "query_shape"


class QueryValueError(QueryError):
    """Queries hold NaN or infinity, or are not unit norm."""

    code = "query_value"
