"""The memory as a thing on disk, and searching it.

Imports none of our other rooms; numpy, FAISS and pyarrow.
"""

from memory.deletes import write_deletes
from memory.encoder_record import check_encoder, undeclared_encoder
from memory.errors import (
    EncoderMismatch,
    FileMissing,
    ItemNotFound,
    Locked,
    ManifestInvalid,
    MemoryClosed,
    MemoryFileError,
    MemoryNotFound,
    MemoryStoreError,
    QueryError,
    QueryShapeError,
    QueryValueError,
    RowsInvalid,
    SegmentInvalid,
    ShardHashMismatch,
    ShardInvalid,
    ShardSizeMismatch,
    VersionNotFound,
    VersionTaken,
    WriteFailed,
)
from memory.index import build_index
from memory.manifest import (
    Contents,
    DeleteRecord,
    FileRecord,
    IndexRecord,
    Manifest,
    SegmentRecord,
    ShardRecord,
    UnitRecord,
    content_digest,
)
from memory.memory import Item, Memory
from memory.neighbours import MODALITIES, OTHER_MODALITY, Modality, Neighbours
from memory.publish import BuildLock, publish, repair_head
from memory.rows import ITEMS_SCHEMA, Rows
from memory.segments import write_segment
from memory.stamps import default_stamp_directory
from memory.verify import Problem, VerifyReport, verify_memory
from memory.versions import latest_version, list_versions, read_manifest

__all__ = [
    "ITEMS_SCHEMA",
    "MODALITIES",
    "OTHER_MODALITY",
    "BuildLock",
    "Contents",
    "DeleteRecord",
    "EncoderMismatch",
    "FileMissing",
    "FileRecord",
    "IndexRecord",
    "Item",
    "ItemNotFound",
    "Locked",
    "Manifest",
    "ManifestInvalid",
    "Memory",
    "MemoryClosed",
    "MemoryFileError",
    "MemoryNotFound",
    "MemoryStoreError",
    "Modality",
    "Neighbours",
    "Problem",
    "QueryError",
    "QueryShapeError",
    "QueryValueError",
    "Rows",
    "RowsInvalid",
    "SegmentInvalid",
    "SegmentRecord",
    "ShardHashMismatch",
    "ShardInvalid",
    "ShardRecord",
    "ShardSizeMismatch",
    "UnitRecord",
    "VerifyReport",
    "VersionNotFound",
    "VersionTaken",
    "WriteFailed",
    "build_index",
    "check_encoder",
    "content_digest",
    "default_stamp_directory",
    "latest_version",
    "list_versions",
    "publish",
    "read_manifest",
    "repair_head",
    "undeclared_encoder",
    "verify_memory",
    "write_deletes",
    "write_segment",
]
