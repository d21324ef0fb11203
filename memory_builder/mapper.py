"""Rows of a unit to encoded rows: decode ahead in threads, encode in batches, keep the corpus's order.

Imports models (encoder, texts) and memory's row types. N rows, D embedding dim.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory import ITEMS_SCHEMA, Rows
from memory_builder.decoding import Decoded, decode, hash_content
from memory_builder.known_keys import DUPLICATE, EARLIER, REMOVED, TAKEN_OUT, KnownKeys, StoredPair
from memory_builder.records import Record, Rejected, Row, RowRejected
from models.errors import EncoderError, InputError, TextError
from models.texts import TextLimits, check_text

if TYPE_CHECKING:  # torch takes seconds to load, and a wrong path should be told before
    import torch

    from models.encoder import Encoder

_WINDOW_BATCHES = 2  # decoded ahead of the encoder, in batches: pixels wait in memory

Checkpoint = Callable[[int, int], None]
"""Called between batches with rows read and rows rejected since the last call; may raise to stop the unit."""


@dataclass(frozen=True)
class MappedUnit:
    """What a unit became: rows to store and rows rejected, both in the corpus's order."""

    rows: Rows
    rejected: tuple[Rejected, ...]


@dataclass
class _Unit:
    """A unit while it is encoded; rows are known by their number in the corpus's order."""

    rejected: dict[int, Rejected] = field(default_factory=dict)
    kept: dict[int, Record] = field(default_factory=dict)  # captions as checked
    hashes: dict[int, str] = field(default_factory=dict)
    thumbnails: dict[int, bytes | None] = field(default_factory=dict)
    images: dict[int, NDArray[np.float16]] = field(default_factory=dict)  # (D,) each

    def reject(self, number: int, record: Record, code: str, detail: str) -> None:
        self.rejected[number] = Rejected(record.key, code, detail, record.source)
        for column in (self.kept, self.hashes, self.thumbnails, self.images):
            column.pop(number, None)


class Mapper:
    """Encodes units, one at a time, with threads of its own; a context manager.

    Attributes:
        units_at_once: how many may be mapped at the same time.

    The rows and their batches depend on the unit alone, not on threads or timing: a unit done again gives
    equal bytes.
    """

    units_at_once = 1

    def __init__(
        self,
        encoder: "Encoder",
        *,
        batch_size: int,
        decode_threads: int,
        thumbnail_px: int,
        max_characters: int,
    ) -> None:
        self._encoder = encoder
        self._batch_size = batch_size
        self._thumbnail_px = thumbnail_px
        self._limits = TextLimits(max_characters=max_characters)
        self._threads = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")

    def __enter__(self) -> "Mapper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def map_unit(self, rows: Iterable[Row], known: KnownKeys, checkpoint: Checkpoint) -> MappedUnit:
        """Encode the rows of a unit.

        Args:
            rows: as a reader gives them.
            known: the keys of the memory.
            checkpoint: called at least once every `batch_size` rows.

        Raises:
            EncoderError: the encoder is unusable; a single row it cannot embed is rejected instead.
            CorpusError: the source cannot be read on.
        """
        unit = _Unit()
        batch: list[tuple[int, Decoded]] = []
        told, told_rejected, number = 0, 0, -1
        for number, outcome in enumerate(self._decoded(rows, known)):
            if isinstance(outcome, Rejected):
                unit.rejected[number] = outcome
            else:
                unit.kept[number], decoded = outcome
                batch.append((number, decoded))
            if len(batch) == self._batch_size:
                self._encode_images(unit, batch)
                batch = []
            if number + 1 - told == self._batch_size:
                checkpoint(number + 1 - told, len(unit.rejected) - told_rejected)
                told, told_rejected = number + 1, len(unit.rejected)
        self._encode_images(unit, batch)
        texts = self._encode_texts(unit, checkpoint)
        checkpoint(number + 1 - told, len(unit.rejected) - told_rejected)
        return self._finish(unit, texts)

    def _decoded(self, rows: Iterable[Row], known: KnownKeys) -> Iterator[tuple[Record, Decoded] | Rejected]:
        """Outcomes in the order of the rows, while threads work on those behind."""
        window: deque[Callable[[], tuple[Record, Decoded] | Rejected]] = deque()
        claimed: set[str] = set()
        for row in rows:
            window.append(self._submit(row, known, first=row.key not in claimed))
            claimed.add(row.key)
            if len(window) > _WINDOW_BATCHES * self._batch_size:
                yield window.popleft()()
        while window:
            yield window.popleft()()

    def _submit(self, row: Row, known: KnownKeys, *, first: bool) -> Callable[[], tuple[Record, Decoded] | Rejected]:
        """Begin a row's work; the answer waits for its outcome."""
        if isinstance(row, Rejected):
            return lambda: row
        if not first:
            duplicate = Rejected(row.key, DUPLICATE, EARLIER, row.source)
            return lambda: duplicate
        if known.is_removed(row.key):
            removed = Rejected(row.key, REMOVED, TAKEN_OUT, row.source)
            return lambda: removed
        try:
            caption = check_text(row.caption, self._limits)
        except TextError as error:
            rejected = Rejected(row.key, error.code, error.detail, row.source)
            return lambda: rejected
        record = Record(row.key, caption, row.image, row.source)
        stored = known.stored(row.key)
        if stored is not None:
            work = self._threads.submit(self._decode_if_new, record, known, stored)
        else:
            work = self._threads.submit(self._decode, record)
        return lambda: _awaited(record, work)

    def _decode(self, record: Record) -> Decoded:
        return decode(record, self._encoder.preprocess, self._thumbnail_px)

    def _decode_if_new(self, record: Record, known: KnownKeys, stored: StoredPair) -> Decoded:
        """Compare a row with what the memory holds under its key, and decode it if it is to replace that."""
        refusal = known.refusal(StoredPair(hash_content(record), record.caption), stored)
        if refusal is not None:
            raise RowRejected(*refusal)
        return self._decode(record)

    def _encode_images(self, unit: _Unit, batch: Sequence[tuple[int, Decoded]]) -> None:
        if not batch:
            return
        import torch

        pixels = torch.stack([decoded.pixels for _, decoded in batch])  # (B, 3, S, S)
        embeddings, unusable = _embed(self._encoder.encode_image, pixels)
        for row, (number, decoded) in enumerate(batch):
            if row in unusable:
                unit.reject(number, unit.kept[number], "nonfinite_embedding", _detail("image"))
                continue
            unit.images[number] = embeddings[row]
            unit.hashes[number] = decoded.content_sha256
            unit.thumbnails[number] = decoded.thumbnail

    def _encode_texts(self, unit: _Unit, checkpoint: Checkpoint) -> dict[str, NDArray[np.float16]]:
        """Embed each different caption once, in order of first appearance; rows without one are rejected."""
        captions = list(dict.fromkeys(record.caption for record in unit.kept.values()))
        texts: dict[str, NDArray[np.float16]] = {}
        errors: dict[str, tuple[str, str]] = {}
        for start in range(0, len(captions), self._batch_size):
            checkpoint(0, 0)
            batch, refused = self._tokenizable(captions[start : start + self._batch_size])
            errors.update(refused)
            if batch:
                embeddings, unusable = _embed(self._encoder.encode_text, self._encoder.tokenize(batch).ids)
                errors.update({batch[row]: ("nonfinite_embedding", _detail("caption")) for row in unusable})
                texts.update(zip(batch, embeddings, strict=True))
        for number, record in list(unit.kept.items()):
            if record.caption in errors:
                unit.reject(number, record, *errors[record.caption])
        return texts

    def _tokenizable(self, captions: list[str]) -> tuple[list[str], dict[str, tuple[str, str]]]:
        """The captions that the tokenizer takes; it may know control tokens that check_text does not."""
        refused = {}
        try:
            self._encoder.tokenize(captions)
        except TextError:
            for caption in captions:
                try:
                    self._encoder.tokenize([caption])
                except TextError as error:
                    refused[caption] = (error.code, error.detail)
        return [caption for caption in captions if caption not in refused], refused

    def _finish(self, unit: _Unit, texts: dict[str, NDArray[np.float16]]) -> MappedUnit:
        order = sorted(unit.kept)
        records = [unit.kept[number] for number in order]
        empty = np.empty((0, self._encoder.embed_dim), dtype=np.float16)
        columns = {
            "key": [record.key for record in records],
            "caption": [record.caption for record in records],
            "source": [record.source for record in records],
            "content_sha256": [unit.hashes[number] for number in order],
            "thumbnail": [unit.thumbnails[number] for number in order],
        }
        rows = Rows(
            image=np.stack([unit.images[number] for number in order]) if order else empty,
            text=np.stack([texts[record.caption] for record in records]) if order else empty,
            items=pa.table(columns, schema=ITEMS_SCHEMA),
        )
        return MappedUnit(rows, tuple(unit.rejected[number] for number in sorted(unit.rejected)))


def _awaited(record: Record, decoding: Future[Decoded]) -> tuple[Record, Decoded] | Rejected:
    try:
        return record, decoding.result()
    except (InputError, RowRejected) as error:
        return Rejected(record.key, error.code, error.detail, record.source)


def _embed(
    encode: "Callable[[torch.Tensor], NDArray[np.float32]]", batch: "torch.Tensor"
) -> tuple[NDArray[np.float16], set[int]]:
    """Encode a batch, leaving out the rows that the encoder cannot embed.

    Returns:
        (B, D) float16, unit norm, zeros in the rows left out; and the numbers of those rows.
    """
    kept = list(range(len(batch)))
    while True:
        try:
            found = encode(batch[kept])
            break
        except EncoderError as error:
            if error.code != "nonfinite_embedding" or not error.rows:
                raise
            kept = [row for position, row in enumerate(kept) if position not in error.rows]
    embeddings = np.zeros((len(batch), found.shape[1]), dtype=np.float16)  # (B, D)
    embeddings[kept] = found
    return embeddings, set(range(len(batch))) - set(kept)


def _detail(what: str) -> str:
    return f"The encoder's answer to the {what} is zero or not finite."
