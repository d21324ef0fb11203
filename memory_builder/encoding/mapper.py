"""Rows of a unit to encoded rows: which may be stored, which batches they make, in which order they come back.

Imports models (texts) and memory's row types; lanes decode and encode the batches. N rows, D embedding dim.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory import ITEMS_SCHEMA, Rows
from memory_builder.config import BuildConfig
from memory_builder.encoding.begun import BegunUnit
from memory_builder.encoding.caption_batches import CaptionEncoder
from memory_builder.encoding.decoding import Refused
from memory_builder.encoding.image_batches import ImageBatches
from memory_builder.known_keys import (
    ALREADY_STORED,
    DUPLICATE,
    EARLIER,
    NO_FAULT,
    OTHER_PAIR,
    REMOVED,
    REPEATED,
    SAME_AS_EARLIER,
    TAKEN_OUT,
    KnownKeys,
)
from memory_builder.records import Record, Rejected, Row, RowRejected
from models.errors import TextError
from models.texts.checking import TextLimits, check_text

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    from memory_builder.encoding.lanes.lane import Encoded, Lanes
    from models.encoder import Encoder

Checkpoint = Callable[[int, int], None]
"""Called between batches with rows read and rows rejected (not those that are no fault) since the last call; may raise
to stop the unit."""


@dataclass(frozen=True)
class MappedUnit:
    """What a unit became: rows to store and rows rejected, both in the corpus's order."""

    rows: Rows
    rejected: tuple[Rejected, ...]


@dataclass
class _Unit:
    """A unit while it is encoded; rows are known by their number in the corpus's order.

    Attributes:
        num_refused: of `rejected`, the rows that are at fault: what a person would call rejected.
        repeats: rows of an earlier row's key and caption, with that row's number: whether they are the same pair is
            known when that row's image is.
    """

    rejected: dict[int, Rejected] = field(default_factory=dict)
    num_refused: int = 0
    kept: dict[int, Record] = field(default_factory=dict)  # captions as checked
    images: "dict[int, Encoded]" = field(default_factory=dict)
    repeats: dict[int, tuple[int, Record]] = field(default_factory=dict)

    def refuse(self, number: int, row: Rejected) -> None:
        self.rejected[number] = row
        self.num_refused += row.code not in NO_FAULT

    def reject(self, number: int, record: Record, why: Refused) -> None:
        self.refuse(number, Rejected(record.key, why.code, why.detail, record.source))
        self.kept.pop(number, None)
        self.images.pop(number, None)

    def enter(self, batch: list[int], outcomes: "list[Encoded | Refused]") -> None:
        for number, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused):
                self.reject(number, self.kept[number], outcome)
            else:
                self.images[number] = outcome


class Mapper:
    """Encodes units.

    The rows and their batches depend on the unit alone, not on lanes or timing: a unit done again gives equal bytes.

    Attributes:
        units_at_once: two, so that the lanes have work while a unit's texts are encoded and its rows written. They
            hand in their images one after the other: side by side, both would be held whole until both are done.
    """

    units_at_once = 2

    def __init__(self, encoder: "Encoder", lanes: "Lanes", *, batch_size: int, max_characters: int) -> None:
        self._encoder = encoder
        self._lanes = lanes
        self._batch_size = batch_size
        self._captions = CaptionEncoder(encoder, lanes, batch_size)
        self._limits = TextLimits(max_characters=max_characters)
        self._turn = Lock()

    def map_unit(
        self, rows: Iterable[Row], known: KnownKeys, checkpoint: Checkpoint, begun: BegunUnit | None = None
    ) -> MappedUnit:
        """Encode the rows of a unit.

        Args:
            rows: as a reader gives them.
            known: the keys of the memory.
            checkpoint: called at least once for each batch.
            begun: images that an earlier run encoded; those that are encoded now are noted there.

        Raises:
            EncoderError: the encoder is unusable; a single row it cannot embed is rejected instead.
            CorpusError: the source cannot be read on.
        """
        unit = _Unit()
        images = ImageBatches(self._lanes, known, BegunUnit() if begun is None else begun)
        self._encode_images(unit, rows, images, checkpoint)
        texts = self._encode_texts(unit, checkpoint)
        return self._finish(unit, texts)

    def seconds(self) -> Mapping[str, float]:
        """As in Lanes."""
        return self._lanes.seconds()

    def _encode_images(self, unit: _Unit, rows: Iterable[Row], images: ImageBatches, checkpoint: Checkpoint) -> None:
        """Have lanes decode and encode all rows that may be stored, a few batches ahead of what is collected."""
        told, told_rejected = 0, 0
        try:
            with self._turn:
                for batch, read in self._batches(unit, rows, images.known):
                    if batch:
                        images.begin(batch, [unit.kept[number] for number in batch])
                    while len(images) >= self._lanes.ahead:
                        unit.enter(*images.next())
                    checkpoint(read - told, unit.num_refused - told_rejected)
                    told, told_rejected = read, unit.num_refused
            while images:
                unit.enter(*images.next())
                checkpoint(0, unit.num_refused - told_rejected)
                told_rejected = unit.num_refused
            for number, (first, record) in unit.repeats.items():
                unit.refuse(number, _repeated(unit, first, record, images.known))
            checkpoint(0, unit.num_refused - told_rejected)
        finally:
            images.let_go()

    def _batches(self, unit: _Unit, rows: Iterable[Row], known: KnownKeys) -> Iterator[tuple[list[int], int]]:
        """Numbers of the rows to encode, `batch_size` at a time, and how many rows were read by then."""
        batch: list[int] = []
        claimed: dict[str, tuple[int, str | None]] = {}  # the first row of a key: its number and caption
        number, unseen = -1, 0
        for number, row in enumerate(rows):
            caption = row.caption if isinstance(row, Record) else None
            first, claim = claimed.setdefault(row.key, (number, caption))
            outcome = self._considered(row, known, first=first == number)
            if isinstance(row, Record) and first < number and claim == caption:
                unit.repeats[number] = (first, row)
            elif isinstance(outcome, Rejected):
                unit.refuse(number, outcome)
            else:
                unit.kept[number] = outcome
                batch.append(number)
            unseen += 1
            if len(batch) == self._batch_size or unseen == self._batch_size:
                full = len(batch) == self._batch_size
                yield (batch if full else []), number + 1
                batch, unseen = ([] if full else batch), 0
        yield batch, number + 1

    def _considered(self, row: Row, known: KnownKeys, *, first: bool) -> Record | Rejected:
        """A row as it will be encoded, or why it will not be: without its image."""
        if isinstance(row, Rejected):
            return row
        if not first:
            return Rejected(row.key, DUPLICATE, EARLIER, row.source)
        if known.is_removed(row.key):
            return Rejected(row.key, REMOVED, TAKEN_OUT, row.source)
        try:
            return Record(row.key, check_text(row.caption, self._limits), row.image, row.source)
        except TextError as error:
            return Rejected(row.key, error.code, error.detail, row.source)

    def _encode_texts(self, unit: _Unit, checkpoint: Checkpoint) -> dict[str, NDArray[np.float16]]:
        """Embed each different caption once; rows without an embedding are rejected."""
        captions = list(dict.fromkeys(record.caption for record in unit.kept.values()))
        texts, refused = self._captions.encode(captions, lambda: checkpoint(0, 0))
        late = [(number, record) for number, record in unit.kept.items() if record.caption in refused]
        for number, record in late:
            unit.reject(number, record, refused[record.caption])
        checkpoint(0, len(late))
        return texts

    def _finish(self, unit: _Unit, texts: dict[str, NDArray[np.float16]]) -> MappedUnit:
        order = sorted(unit.kept)
        records = [unit.kept[number] for number in order]
        described = [unit.images[number].described for number in order]
        empty = np.empty((0, self._encoder.embed_dim), dtype=np.float16)
        columns = {
            "key": [record.key for record in records],
            "caption": [record.caption for record in records],
            "source": [record.source for record in records],
            "content_sha256": [image.content_sha256 for image in described],
            "thumbnail": [image.thumbnail for image in described],
        }
        rows = Rows(
            image=np.stack([unit.images[number].embedding for number in order]) if order else empty,
            text=np.stack([texts[record.caption] for record in records]) if order else empty,
            items=pa.table(columns, schema=ITEMS_SCHEMA),
        )
        return MappedUnit(rows, tuple(unit.rejected[number] for number in sorted(unit.rejected)))


def _repeated(unit: _Unit, first: int, record: Record, known: KnownKeys) -> Rejected:
    """What a row is that has the key and the caption of the unit's row `first`: the same pair, if its image is too."""
    refused, code, detail = unit.rejected.get(first), DUPLICATE, EARLIER
    content = unit.images[first].described.content_sha256 if first in unit.images else None
    if refused is not None and refused.code == ALREADY_STORED and (rival := known.rival(record.key)) is not None:
        content = rival.stored.content_sha256
    elif refused is not None and (refused.code == REMOVED or refused.detail == OTHER_PAIR):
        code, detail = refused.code, refused.detail
    try:
        if content is not None and hashlib.sha256(record.image()).hexdigest() == content:
            code, detail = REPEATED, SAME_AS_EARLIER
    except RowRejected:
        pass  # whatever it is, it is not the pair of this key that is stored
    return Rejected(record.key, code, detail, record.source)


@contextmanager
def open_mapper(config: BuildConfig, encoder: "Encoder") -> Iterator[Mapper]:
    """A mapper with lanes for the encoder's device: of this process, or of an engine's worker."""
    from memory_builder.encoding.lanes import open_lanes  # torch with it

    lanes = open_lanes(config, encoder)
    try:
        yield Mapper(encoder, lanes, batch_size=config.batch_size, max_characters=config.max_characters)
    finally:
        lanes.close()
