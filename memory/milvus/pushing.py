"""Copy a memory into Milvus: in batches, resumable, checked by counts and sampled vectors, and named last.

Rows go into a collection named after the contents; its record is written when all of it was checked, and then the
name (an alias) is turned to it: who opens the name sees the old contents or the new, never a part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memory.errors import BackendRefused, WriteFailed
from memory.memory import Memory
from memory.milvus.connection import Connection
from memory.milvus.indices import IndexChoice
from memory.milvus.milvus_memory import COLUMNS, MilvusMemory, check_name, read_record, record_collection
from memory.milvus.record import Record
from memory.neighbours import MODALITIES

_BLOCK_ROWS: Final = 4096  # counted together when a push goes on
_REQUEST_BYTES: Final = 8 << 20  # of one insert
_MAX_TEXT: Final = 65_535  # bytes of a VARCHAR
_SAMPLE: Final = 256
_SAMPLE_K: Final = 10


@dataclass(frozen=True)
class Push:
    """What a push did.

    Attributes:
        collection: where the rows are; the name stands for it now.
        replaced: what the name stood for before, or None.
        written: rows written by this call; the others were there.
        agreement: see `Record`.
    """

    collection: str
    replaced: str | None
    written: int
    agreement: float


def push(
    memory: Memory,
    connection: Connection,
    name: str,
    index: IndexChoice,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Push:
    """Copy `memory` and name it; a push that was broken off goes on.

    Args:
        name: the alias to turn to it.
        report: called with the rows done and all rows.

    Raises:
        MemoryUnavailable: the server went away; give the same call again.
        BackendRefused: the name is a collection itself, the memory is there with another index, or Milvus refuses an
            index or a row.
        WriteFailed: what is there is not what was written.
    """
    collection = f"{check_name(name)}_{memory.digest[:16]}"
    before = _standing_for(connection, name)
    known = read_record(connection, collection)
    written = 0
    if known is None:
        written = _write(memory, connection, collection, report)
        _build_index(connection, collection, index)
        known = Record(
            version=memory.version,
            digest=memory.digest,
            encoder=memory.encoder,
            encoded_with=memory.manifest.encoded_with,
            num_rows=memory.num_rows,
            num_items=memory.num_items,
            deleted=memory.deleted_ids(),
            index=index,
            agreement=0.0,
        )
    elif known.index != index:
        raise BackendRefused(
            f"{collection} is there, whole, with the index {known.index.told}, and this push asks for {index.told}: "
            "name that one, or drop the collection first, while nothing serves it"
        )
    connection.manage("load_collection", collection)
    agreement = _check(memory, MilvusMemory(connection, collection, known))
    if written or known.agreement == 0.0:
        _write_record(connection, collection, Record(**{**known.__dict__, "agreement": agreement}))
    if before != collection:
        connection.manage("alter_alias" if before else "create_alias", collection, alias=name)
    return Push(collection, before if before != collection else None, written, agreement)


def _standing_for(connection: Connection, name: str) -> str | None:
    """The collection an alias stands for; None if the name is free."""
    if not connection.read("has_collection", name):
        return None
    collection = str(connection.read("describe_collection", name)["collection_name"])
    if collection == name:
        raise BackendRefused(f"{name!r} is a collection of its own in this Milvus: take another --name")
    return collection


def _write(memory: Memory, connection: Connection, collection: str, report: Callable[[int, int], None]) -> int:
    """Insert the rows that are not there; returns how many."""
    begun = bool(connection.read("has_collection", collection))
    if not begun:
        connection.manage("create_collection", collection, schema=_schema(connection, memory.embed_dim))
    else:
        # counting needs a loaded collection, loading an index: the exact one costs nothing
        _build_index(connection, collection, IndexChoice("FLAT", {}, {}))
        connection.manage("load_collection", collection)
    alive = np.setdiff1d(np.arange(memory.num_rows), memory.deleted_ids())
    step = max(1, min(_BLOCK_ROWS, _REQUEST_BYTES // (8 * memory.embed_dim)))
    written = 0
    for start in range(0, len(alive), _BLOCK_ROWS):
        block = alive[start : start + _BLOCK_ROWS]
        if not begun or _count(connection, collection, block) != len(block):
            for first in range(0, len(block), step):
                ids = block[first : first + step]
                # a batch may have arrived without our hearing of it: upsert writes it once whatever happened
                connection.manage("upsert" if begun else "insert", collection, data=_entities(memory, ids))
            written += len(block)
        report(min(start + _BLOCK_ROWS, len(alive)), len(alive))
    connection.manage("flush", collection)
    return written


def _entities(memory: Memory, ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    sides = {modality: memory.rows(modality, ids) for modality in MODALITIES}
    entities: list[dict[str, Any]] = []
    for row, item in enumerate(memory.items(ids)):
        columns: dict[str, str] = {column: getattr(item, column) for column in COLUMNS}
        for column, text in columns.items():
            if len(text.encode()) > _MAX_TEXT:
                raise BackendRefused(f"item {item.key[:80]!r}: its {column} is longer than Milvus' {_MAX_TEXT:,} bytes")
        entities.append({"id": item.id, **columns, "image": sides["image"][row], "text": sides["text"][row]})
    return entities


def _count(connection: Connection, collection: str, ids: NDArray[np.int64]) -> int:
    expression = f"id >= {ids[0]} and id <= {ids[-1]}"
    return _counted(connection, collection, filter=expression)


def _counted(connection: Connection, collection: str, **arguments: Any) -> int:
    rows = connection.manage("query", collection, output_fields=["count(*)"], consistency_level="Strong", **arguments)
    return int(rows[0]["count(*)"])


def _schema(connection: Connection, embed_dim: int) -> Any:
    """One entity: id, texts, and a vector of each modality."""
    schema, kinds = _new_schema(connection)
    for column in COLUMNS:
        schema.add_field(column, kinds.VARCHAR, max_length=_MAX_TEXT)
    for modality in MODALITIES:
        schema.add_field(modality, kinds.FLOAT_VECTOR, dim=embed_dim)
    return schema


def _new_schema(connection: Connection) -> tuple[Any, Any]:
    from pymilvus import DataType

    schema = connection.client(connection.server.timeout_s).create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    return schema, DataType


def _build_index(connection: Connection, collection: str, index: IndexChoice) -> None:
    """Build the index of both vector fields, in place of another that may be there; returns when it is built."""
    client = connection.client(connection.server.timeout_s)
    wanted = client.prepare_index_params()
    built = {str(name) for name in client.list_indexes(collection)}
    for modality in MODALITIES:
        known = connection.manage("describe_index", collection, index_name=modality) if modality in built else None
        if known is not None and known.get("index_type") == index.index_type:
            continue
        if known is not None:
            connection.manage("release_collection", collection)
            connection.manage("drop_index", collection, index_name=modality)
        wanted.add_index(
            field_name=modality,
            index_name=modality,
            index_type=index.index_type,
            metric_type="IP",
            params=dict(index.params),
        )
    if len(wanted):
        connection.manage("create_index", collection, index_params=wanted)


def _check(memory: Memory, pushed: MilvusMemory) -> float:
    """Count the entities, read some of them back, and search with them; returns the share of equal neighbours.

    Raises:
        WriteFailed: an entity is missing or not what was written.
    """
    found = _counted(pushed._connection, pushed.collection)
    if found != memory.num_items:
        raise WriteFailed(f"{pushed.collection} holds {found:,} entities, the memory {memory.num_items:,} items")
    alive = np.setdiff1d(np.arange(memory.num_rows), memory.deleted_ids())
    ids = np.sort(np.random.default_rng(0).permutation(alive)[:_SAMPLE])
    same = [(item.key, item.caption) for item in memory.items(ids)] == [
        (item.key, item.caption) for item in pushed.items(ids)
    ]
    agreements = []
    for modality in MODALITIES:
        rows = memory.rows(modality, ids)
        if not same or not np.array_equal(rows, pushed.rows(modality, ids)):
            raise WriteFailed(f"{pushed.collection}: an entity read back is not what was written; drop it, push again")
        k = min(_SAMPLE_K, memory.num_items)
        ours, theirs = (one.search(rows, k, modality=modality).ids for one in (memory, pushed))
        agreements += [len(np.intersect1d(mine, other)) / k for mine, other in zip(ours, theirs, strict=True)]
    return float(np.mean(agreements)) if agreements else 1.0  # of nothing, all is found


def _write_record(connection: Connection, collection: str, record: Record) -> None:
    table = record_collection(collection)
    if not connection.read("has_collection", table):
        schema, kinds = _new_schema(connection)
        schema.add_field("part", kinds.VARCHAR, max_length=_MAX_TEXT)
        schema.add_field("unused", kinds.FLOAT_VECTOR, dim=2)  # Milvus wants a vector in every collection
        connection.manage("create_collection", table, schema=schema)
        params = connection.client(connection.server.timeout_s).prepare_index_params()
        params.add_index(field_name="unused", index_type="FLAT", metric_type="IP")
        connection.manage("create_index", table, index_params=params)
    rows = [{"id": number, "part": part, "unused": [1.0, 0.0]} for number, part in enumerate(record.parts())]
    connection.manage("upsert", table, data=rows)
    connection.manage("flush", table)
    connection.manage("load_collection", table)
