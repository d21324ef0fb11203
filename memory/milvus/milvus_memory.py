"""The memory, kept in Milvus: searched like `memory.Memory`, over the network. Imports this room only, and numpy.

Shapes: B queries, K neighbours, D embedding dimension, N rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memory.errors import BackendRefused, ItemNotFound, MemoryNotFound, QueryShapeError
from memory.format.encoder_record import check_encoder, encoder_name
from memory.milvus.connection import Connection, MilvusServer, connect
from memory.milvus.record import Record
from memory.neighbours import MODALITIES, OTHER_MODALITY, Modality, Neighbours
from memory.searchable import Item, check_ids, check_queries

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
COLUMNS: Final = ("key", "caption", "source", "content_sha256")
_ANSWER_BYTES: Final = 16 << 20  # of vectors in one answer; gRPC's own bound is several times that
_MAX_IDS: Final = 4096  # in one expression
_MAX_K: Final = 16_384  # Milvus' own bound
MISSING: Final = -1


def record_collection(collection: str) -> str:
    """The collection that says what `collection` is."""
    return f"{collection}__record"


def check_name(name: str) -> str:
    """The name of a memory in Milvus: its alias.

    Raises:
        BackendRefused: Milvus would not take it.
    """
    if NAME.fullmatch(name) is None:
        raise BackendRefused(f"{name!r} is no name of a collection: letters, digits and _, not a digit first")
    return name


def read_record(connection: Connection, collection: str) -> Record | None:
    """What a collection is; None if it was never finished."""
    table = record_collection(collection)
    if not connection.read("has_collection", table):
        return None
    found = connection.read("query", table, filter="id >= 0", output_fields=["id", "part"], consistency_level="Strong")
    parts = [row["part"] for row in sorted(found, key=lambda row: int(row["id"]))]
    return Record.read(parts) if parts else None


class MilvusMemory:
    """One version of a memory in Milvus, pinned: a later push under the same name makes another collection.

    Attributes:
        collection: what the name stood for when it was opened.
    """

    def __init__(self, connection: Connection, collection: str, record: Record) -> None:
        self.collection = collection
        self.record = record
        self._connection = connection

    @classmethod
    def open(cls, name: str, server: MilvusServer, *, encoder: Mapping[str, Any] | None = None) -> "MilvusMemory":
        """Look up a name and pin what it stands for.

        Args:
            name: as given to `reco memory push --name`.
            encoder: record of the encoder that will make the queries; refused if it is another.

        Raises:
            MemoryUnavailable: the server does not answer.
            BackendRefused: it refuses us, or pymilvus is not installed.
            MemoryNotFound, ManifestInvalid, EncoderMismatch: there is nothing fit to open.
        """
        connection = connect(server)
        missing = f"Milvus at {server.shown} holds no memory {name!r}: push one with `reco memory push`"
        if not connection.read("has_collection", check_name(name)):
            raise MemoryNotFound(missing)
        collection = str(connection.read("describe_collection", name)["collection_name"])
        record = read_record(connection, collection)
        if record is None:
            raise MemoryNotFound(f"{missing}; one was begun and not finished" if collection != name else missing)
        if encoder is not None:
            check_encoder(record.encoder, encoder, encoder_name(record.encoder, record.encoded_with))
        connection.read("load_collection", collection)
        return cls(connection, collection, record)

    @property
    def encoder(self) -> Mapping[str, Any]:
        """Record of the encoder that made the embeddings."""
        return self.record.encoder

    @property
    def encoded_with(self) -> Mapping[str, Any]:
        """As `Memory.encoded_with`."""
        return self.record.encoded_with

    @property
    def version(self) -> int:
        """Version of the memory that was pushed."""
        return self.record.version

    @property
    def digest(self) -> str:
        """Content digest of the memory that was pushed."""
        return self.record.digest

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.record.encoder["embed_dim"])

    @property
    def num_rows(self) -> int:
        """Ids run from 0 to this number; those that were deleted before the push are not here."""
        return self.record.num_rows

    @property
    def num_items(self) -> int:
        """Items a search can return."""
        return self.record.num_items

    def search(self, queries: NDArray[np.float32], k: int, *, modality: Modality) -> Neighbours:
        """Find the k nearest items for each query, within one modality, as well as Milvus' index finds them.

        Arguments, result and refusals are those of `memory.Memory.search`; similarities are Milvus' own (float32).

        Raises:
            QueryShapeError, QueryValueError: queries that no memory answers; more than 16,384 neighbours.
            MemoryUnavailable: no answer within the deadline.
        """
        checked = check_queries(queries, k, modality, embed_dim=self.embed_dim)
        found = min(int(k), self.num_items)
        if found > _MAX_K:
            raise QueryShapeError(f"Milvus finds at most {_MAX_K:,} neighbours a query, not {found:,}")
        shape = (len(checked), int(k))
        neighbours = Neighbours(
            ids=np.full(shape, MISSING, dtype=np.int64),
            similarities=np.zeros(shape, dtype=np.float32),
            values=np.zeros((*shape, self.embed_dim), dtype=np.float32),
            keys=np.zeros((*shape, self.embed_dim), dtype=np.float32),
            mask=np.zeros(shape, dtype=np.bool_),
        )
        if not found:
            return neighbours
        step = max(1, _ANSWER_BYTES // (found * self.embed_dim * 4 * len(MODALITIES)))
        for start in range(0, len(checked), step):
            hits = self._connection.read(
                "search",
                self.collection,
                data=list(checked[start : start + step]),
                anns_field=modality,
                limit=found,
                output_fields=list(MODALITIES),
                search_params={"metric_type": "IP", "params": self.record.index.searching(found)},
            )
            for row, of_query in enumerate(hits, start):
                _fill(neighbours, row, of_query, modality)
        return neighbours

    def items(self, ids: Sequence[int] | NDArray[np.int64]) -> list[Item]:
        """Look up items by id, in the order given; without thumbnails.

        Raises:
            ItemNotFound: an id outside the memory, or deleted before the push.
        """
        wanted = check_ids(ids, num_rows=self.num_rows)
        found = {int(row["id"]): row for row in self._get(np.unique(wanted), COLUMNS)}
        try:
            return [
                Item(id=id, **{name: found[id][name] for name in COLUMNS}, thumbnail=None) for id in wanted.tolist()
            ]
        except KeyError as error:
            raise ItemNotFound(f"item {error} was deleted before the memory was pushed") from error

    def rows(self, modality: Modality, ids: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Embeddings of some ids, or of all `num_rows` in id order.

        Returns:
            (N, D) float32, unit norm; zeros where the item was deleted before the push.

        Raises:
            ItemNotFound: an id outside the memory.
        """
        if modality not in MODALITIES:
            raise QueryShapeError(f"modality {modality!r} is neither 'image' nor 'text'")
        wanted = np.arange(self.num_rows) if ids is None else check_ids(ids, num_rows=self.num_rows)
        distinct, places = np.unique(wanted, return_inverse=True)
        table = np.zeros((len(distinct), self.embed_dim), dtype=np.float32)
        for row in self._get(distinct, (modality,)):
            table[np.searchsorted(distinct, int(row["id"]))] = row[modality]
        return table[places]

    def keys(self) -> list[str]:
        """Keys of all rows, in id order; empty where deleted."""
        return [key for block in self.blocks("key") for key in block]

    def captions(self, ids: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """Captions of some ids, in the order given, or of all rows in id order; empty where deleted.

        Raises:
            ItemNotFound: an id outside the memory.
        """
        if ids is None:
            return [caption for block in self.blocks("caption") for caption in block]
        wanted = check_ids(ids, num_rows=self.num_rows)
        found = {int(row["id"]): str(row["caption"]) for row in self._get(np.unique(wanted), ("caption",))}
        return [found.get(id, "") for id in wanted.tolist()]

    def blocks(self, column: str) -> Iterator[list[str]]:
        """A column of text of all rows, in id order, a block at a time; empty where deleted."""
        for start in range(0, self.num_rows, _MAX_IDS):
            ids = np.arange(start, min(start + _MAX_IDS, self.num_rows))
            found = {int(row["id"]): str(row[column]) for row in self._get(ids, (column,))}
            yield [found.get(id, "") for id in ids.tolist()]

    def deleted_ids(self) -> NDArray[np.int64]:
        """Ids that are not here, ascending."""
        return self.record.deleted.copy()

    def indices(self) -> list[dict[str, Any]]:
        """What Milvus searches."""
        kind = f"milvus {self.record.index.index_type}"
        return [{"modality": modality, "id": self.collection, "kind": kind, "num_shards": 1} for modality in MODALITIES]

    def segments(self) -> list[dict[str, Any]]:
        """None: Milvus' segments are its own business."""
        return []

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _get(self, ids: NDArray[np.int64], fields: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Entities of distinct ids, in no order; those that are not there are left out."""
        vectors = sum(name in MODALITIES for name in fields)
        step = max(1, min(_MAX_IDS, _ANSWER_BYTES // (vectors * self.embed_dim * 4 or 1)))
        for start in range(0, len(ids), step):
            listed = ", ".join(map(str, ids[start : start + step].tolist()))
            yield from self._connection.read(
                "query", self.collection, filter=f"id in [{listed}]", output_fields=["id", *fields]
            )


def _fill(neighbours: Neighbours, row: int, hits: Sequence[Mapping[str, Any]], modality: Modality) -> None:
    """One query's hits, by similarity descending, then id ascending."""
    best = sorted(hits, key=lambda hit: (-hit["distance"], hit["id"]))
    width = len(best)
    neighbours.ids[row, :width] = [hit["id"] for hit in best]
    neighbours.similarities[row, :width] = [hit["distance"] for hit in best]
    neighbours.mask[row, :width] = True
    if best:
        neighbours.keys[row, :width] = [hit["entity"][modality] for hit in best]
        neighbours.values[row, :width] = [hit["entity"][OTHER_MODALITY[modality]] for hit in best]
