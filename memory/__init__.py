"""The memory as a thing on disk, and searching it. Its folders build on each other one way (tests/test_house.py):

    format/       the files, how they are written, and which versions there are
    searching/    ranking by the stored rows
    indexing/     which index a memory gets; training and measuring it; candidates from lists; gpu/ does it on a GPU
    milvus/       a memory in a Milvus server
    stores/       memories and corpora in an object store
    changes/      every way from one version to the next
    memory, opened, opening, verify   one version: opened wherever it is kept, searched, checked

Imports none of our other rooms; numpy, FAISS and pyarrow.
"""

from memory.changes.adding import Addition, add_rows, added_ids
from memory.changes.compaction import MAX_SEGMENT_ROWS, Compaction, compact
from memory.changes.difference import Difference, difference
from memory.changes.garbage import Collection, Leftover, collect
from memory.changes.key_patterns import KeyPatterns
from memory.changes.near_duplicates import (
    COSINE_ROUNDING,
    DUPLICATE_COSINE,
    NearDuplicates,
    read_evaluation_images,
)
from memory.changes.purging import Purge, purge
from memory.changes.receipts import Receipt, list_receipts
from memory.changes.reindexing import Reindexing, reindex
from memory.changes.removing import Removal, remove_keys, remove_near
from memory.changes.rollback import Rollback, roll_back
from memory.errors import (
    BackendRefused,
    EncoderMismatch,
    FileMissing,
    GpuSearchUnavailable,
    IndexOptionsInvalid,
    ItemNotFound,
    KeyNotFound,
    KeyTaken,
    Locked,
    ManifestInvalid,
    MemoryClosed,
    MemoryFileError,
    MemoryNotFound,
    MemoryStoreError,
    MemoryUnavailable,
    NothingLeft,
    ObjectChanged,
    ObjectMissing,
    QueryError,
    QueryShapeError,
    QueryValueError,
    ReceiptInvalid,
    RowsInvalid,
    SegmentInvalid,
    SelectionInvalid,
    ShardHashMismatch,
    ShardInvalid,
    ShardSizeMismatch,
    StoreRefused,
    StoreUnavailable,
    VersionNotFound,
    VersionTaken,
    WriteFailed,
)
from memory.format.deletes import write_deletes
from memory.format.encoder_record import check_encoder, encoder_name, encoder_of, undeclared_encoder
from memory.format.manifest import (
    Contents,
    DeleteRecord,
    FileRecord,
    IndexRecord,
    Manifest,
    RemovedRecord,
    SegmentRecord,
    ShardRecord,
    UnitRecord,
    content_digest,
)
from memory.format.publish import BuildLock, publish, repair_head
from memory.format.removed import key_hash, read_removed, write_removed
from memory.format.rows import ITEMS_SCHEMA, Rows
from memory.format.segments import write_segment
from memory.format.stamps import default_copy_directory, default_stamp_directory
from memory.format.versions import latest_version, list_versions, read_manifest
from memory.indexing.building import build_index, build_indexes
from memory.indexing.gpu.owner import num_gpus
from memory.indexing.gpu.placing import Gpu
from memory.indexing.options import IndexOptions
from memory.indexing.timing import read_times
from memory.indexing.wanted import wanted_family
from memory.memory import Memory
from memory.neighbours import MODALITIES, OTHER_MODALITY, Modality, Neighbours
from memory.opening import local_copy, open_memory
from memory.searchable import Item, SearchableMemory
from memory.stores import RemoteMemories, is_address, newest_remote_version
from memory.verify import Problem, VerifyReport, verify_memory

__all__ = [
    "COSINE_ROUNDING",
    "DUPLICATE_COSINE",
    "ITEMS_SCHEMA",
    "MAX_SEGMENT_ROWS",
    "MODALITIES",
    "OTHER_MODALITY",
    "Addition",
    "BackendRefused",
    "BuildLock",
    "Collection",
    "Compaction",
    "Contents",
    "DeleteRecord",
    "Difference",
    "EncoderMismatch",
    "FileMissing",
    "FileRecord",
    "Gpu",
    "GpuSearchUnavailable",
    "IndexOptions",
    "IndexOptionsInvalid",
    "IndexRecord",
    "Item",
    "ItemNotFound",
    "KeyNotFound",
    "KeyPatterns",
    "KeyTaken",
    "Leftover",
    "Locked",
    "Manifest",
    "ManifestInvalid",
    "Memory",
    "MemoryClosed",
    "MemoryFileError",
    "MemoryNotFound",
    "MemoryStoreError",
    "MemoryUnavailable",
    "Modality",
    "NearDuplicates",
    "Neighbours",
    "NothingLeft",
    "ObjectChanged",
    "ObjectMissing",
    "Problem",
    "Purge",
    "QueryError",
    "QueryShapeError",
    "QueryValueError",
    "Receipt",
    "ReceiptInvalid",
    "Reindexing",
    "RemoteMemories",
    "Removal",
    "RemovedRecord",
    "Rollback",
    "Rows",
    "RowsInvalid",
    "SearchableMemory",
    "SegmentInvalid",
    "SegmentRecord",
    "SelectionInvalid",
    "ShardHashMismatch",
    "ShardInvalid",
    "ShardRecord",
    "ShardSizeMismatch",
    "StoreRefused",
    "StoreUnavailable",
    "UnitRecord",
    "VerifyReport",
    "VersionNotFound",
    "VersionTaken",
    "WriteFailed",
    "add_rows",
    "added_ids",
    "build_index",
    "build_indexes",
    "check_encoder",
    "collect",
    "compact",
    "content_digest",
    "default_copy_directory",
    "default_stamp_directory",
    "difference",
    "encoder_name",
    "encoder_of",
    "is_address",
    "key_hash",
    "latest_version",
    "list_receipts",
    "list_versions",
    "local_copy",
    "newest_remote_version",
    "num_gpus",
    "open_memory",
    "publish",
    "purge",
    "read_evaluation_images",
    "read_manifest",
    "read_removed",
    "read_times",
    "reindex",
    "remove_keys",
    "remove_near",
    "repair_head",
    "roll_back",
    "undeclared_encoder",
    "verify_memory",
    "wanted_family",
    "write_deletes",
    "write_removed",
    "write_segment",
]
