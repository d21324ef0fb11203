"""Encode, search, fuse: one batch in, one batch out. No HTTP and no asyncio.

Depends on models, memory and torch. `decode`, `tokenize` and, on a CPU, `compute` may run in any thread.
Shapes: B queries in a batch, K neighbours, D embedding dim.
"""

import logging
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from memory import MemoryUnavailable, Modality, Neighbours
from models.checkpoint import open_fusion
from models.devices import choose_threads
from models.encoder import Encoder
from models.errors import EncoderError
from models.images.decoding import ImageLimits
from models.refine import RetrievalEnhancedEncoder
from models.texts.checking import TextLimits, check_text
from models.towers.int8_tower import MAX_PICTURES
from service.pipeline.batch import DeviceLost
from service.pipeline.search_device import choose_gpu
from service.served_memory import open_served
from service.settings import Settings

logger = logging.getLogger("reco.engine")

_HOST_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # torch has no class for it

FloatArray: TypeAlias = NDArray[np.float32]
Content: TypeAlias = "torch.Tensor | FloatArray"


@dataclass(frozen=True)
class Tokenised:
    """A text as the text tower takes it: ids (L,) int64, and whether it was cut to the encoder's context."""

    ids: torch.Tensor
    truncated: bool

    @property
    def num_tokens(self) -> int:
        """Tokens up to the end mark, which is not 0 as the padding behind it is; start and end mark included."""
        return int(self.ids.numpy().nonzero()[0][-1]) + 1


@dataclass(frozen=True)
class Query:
    """One item of a batch.

    Attributes:
        content: pixels (3, S, S), text tokens (L,), or an embedding (D,) that is only to be refined.
        enhance: refine it with the memory.
        k: neighbours to look for; used if `enhance` or `neighbours`.
        neighbours: return what was found.
        weight: of the memory's evidence, for a fusion that takes it; None is the trained default.
    """

    content: Content
    enhance: bool = False
    k: int = 1
    neighbours: bool = False
    weight: float | None = None


@dataclass(frozen=True)
class Found:
    """The neighbours of one query, best first, none missing: ids (K,) int64 and similarities (K,) float32."""

    ids: NDArray[np.int64]
    similarities: FloatArray

    @classmethod
    def of(cls, neighbours: Neighbours, row: int) -> "Found":
        """One row without its missing places: -1 goes no further than this."""
        real = neighbours.mask[row]
        return cls(neighbours.ids[row][real], neighbours.similarities[row][real])


@dataclass(frozen=True)
class Answer:
    """One query's embeddings (D,) float32, unit norm; `refined` and `found` are None where nobody asked.

    Attributes:
        degraded: somebody did, and the memory was away.
    """

    original: FloatArray
    refined: FloatArray | None = None
    found: Found | None = None
    degraded: bool = False

    @property
    def embedding(self) -> FloatArray:
        """What the client asked for: refined if it wanted that, else the frozen encoder's."""
        return self.original if self.refined is None else self.refined


class Engine:
    """The composed encoder as the service uses it."""

    def __init__(self, composed: RetrievalEnhancedEncoder, *, max_text_characters: int = 2000) -> None:
        self.composed = composed
        self.encoder = composed.encoder
        self.memory = composed.memory
        self.space = composed.space
        self.original_space = RetrievalEnhancedEncoder(composed.encoder, composed.memory, None).space
        self.memory_away = False  # whether the last search found it so
        self._text_limits = TextLimits(max_characters=max_text_characters)
        self._short_of_memory = False

    @classmethod
    def open(cls, settings: Settings) -> "Engine":
        """Load encoder, memory and fusion, each checked against the others.

        Raises:
            EncoderError, CheckpointError, MemoryStoreError: each with a stable `code`.
        """
        torch.set_num_threads(choose_threads(settings.threads))
        limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
        encoder = Encoder.open(
            settings.model,
            settings.pretrained,
            device=settings.device,
            dtype=settings.dtype,
            limits=limits,
            preprocess=settings.preprocess,
            int8_pictures=_read_pictures(settings.int8_pictures),
        )
        if encoder.int8_cosine is not None:
            logger.info("images in 8 bits: at least cosine %.4f to float32", encoder.int8_cosine)
        encoder.warm_up(settings.max_batch_size)
        return cls.around(encoder, settings)

    @classmethod
    def around(cls, encoder: Encoder, settings: Settings) -> "Engine":
        """The newest memory and fusion that the settings name, around an encoder that is loaded.

        Raises:
            CheckpointError, MemoryStoreError: each with a stable `code`.
        """
        record = encoder.fingerprint.record()
        memory = open_served(settings, record, choose_gpu(settings.search_device, encoder.device))
        if settings.fusion is None:
            composed = RetrievalEnhancedEncoder(encoder, memory, None)
        else:
            saved = open_fusion(Path(settings.fusion), record)
            composed = RetrievalEnhancedEncoder(encoder, memory, saved.fusion, saved.id)
        engine = cls(composed, max_text_characters=settings.max_text_characters)
        # Whoever answers with an engine holds it: with the last one the connections of a memory kept elsewhere go, too.
        weakref.finalize(engine, memory.close).atexit = False
        return engine

    @property
    def can_enhance(self) -> bool:
        """Whether a fusion is loaded; without one there is nothing but the frozen encoder's embeddings."""
        return self.composed.fusion is not None

    @property
    def weighs_label_sets(self) -> bool:
        """Whether the fusion chooses, for each label set, how far to trust the memory."""
        return self.composed.weighs_label_sets

    @property
    def fusion_id(self) -> str | None:
        """Id of the fusion checkpoint, None without one."""
        return self.composed.fusion_id if self.can_enhance else None

    def default_k(self, configured: int | None) -> int:
        """Neighbours of a query that names no number: the setting's, else the fusion's own."""
        return self.composed.default_k if configured is None else configured

    def largest_k(self, configured: int) -> int:
        """The most neighbours a query may ask for: the setting's bound, and the fusion's if it has one."""
        most = self.composed.most_k
        return configured if most is None else min(configured, most)

    def tokenize(self, text: str) -> Tokenised:
        """Check a text and turn it into tokens.

        Raises:
            TextError: the text cannot be used.
        """
        tokens = self.encoder.tokenize([check_text(text, self._text_limits)])
        return Tokenised(tokens.ids[0], tokens.truncated[0])

    def compute(self, modality: Modality, queries: Sequence[Query]) -> tuple[list[Answer], dict[str, float]]:
        """Encode what is not encoded yet, search for those who want neighbours, fuse for those who want that.

        Returns:
            The answers in the order of the queries, and the seconds each stage took.

        Raises:
            EncoderError: a row came out not finite; nobody's row is returned.
            MemoryError: the device or the host ran out of memory.
            DeviceLost: the accelerator cannot be used by this process any more.
        """
        if self._short_of_memory:  # here and not where it was caught: there the failed batch's tensors are still held
            torch.cuda.empty_cache()
            self._short_of_memory = False
        try:
            return self._compute(modality, queries)
        except torch.OutOfMemoryError as error:
            self._short_of_memory = True
            raise MemoryError(str(error)) from error
        except torch.AcceleratorError as error:  # an illegal address, ECC: each later call fails too
            raise DeviceLost(str(error)) from error
        except RuntimeError as error:
            if _HOST_OUT_OF_MEMORY not in str(error):
                raise
            raise MemoryError(str(error)) from error

    def _compute(self, modality: Modality, queries: Sequence[Query]) -> tuple[list[Answer], dict[str, float]]:
        clock = _Clock()
        originals = self._encode(modality, queries)  # (B, D)
        clock.lap("encode")

        # Search once for everybody who needs neighbours, each row to its own k.
        searched = [row for row, query in enumerate(queries) if query.enhance or query.neighbours]
        if not searched:
            return [Answer(original) for original in originals], clock.seconds
        wanted = originals[searched]  # (B', D)
        try:
            found = self.composed.search(wanted, modality=modality, k=[queries[row].k for row in searched])
        except MemoryUnavailable as error:
            if not self.memory_away:  # once, not for each batch until it is back
                logger.error("the memory is away: %s", error)
            self.memory_away = True
            clock.lap("retrieve")
            return [Answer(one, degraded=row in searched) for row, one in enumerate(originals)], clock.seconds
        self.memory_away = False
        clock.lap("retrieve")

        # Fuse the rows that asked for it.
        fused = [place for place, row in enumerate(searched) if queries[row].enhance]
        refined: dict[int, FloatArray] = {}
        if fused:
            weights = _weights([queries[searched[place]] for place in fused])
            rows = self.composed.fuse(wanted[fused], _rows_of(found, fused), modality=modality, weights=weights)
            refined = {searched[place]: row for place, row in zip(fused, rows, strict=True)}
            clock.lap("fuse")

        places = {row: place for place, row in enumerate(searched)}
        answers = [
            Answer(original, refined.get(row), Found.of(found, places[row]) if row in places else None)
            for row, original in enumerate(originals)
        ]
        return answers, clock.seconds

    def _encode(self, modality: Modality, queries: Sequence[Query]) -> FloatArray:
        """(B, D): pixels or tokens are encoded together, embeddings are taken as they are."""
        originals = np.empty((len(queries), self.encoder.embed_dim), dtype=np.float32)
        raw = [row for row, query in enumerate(queries) if isinstance(query.content, torch.Tensor)]
        if raw:
            batch = self.encoder.stack([torch.as_tensor(queries[row].content) for row in raw])
            encode = self.encoder.encode_image if modality == "image" else self.encoder.encode_text
            originals[raw] = encode(batch)
        for row, query in enumerate(queries):
            if not isinstance(query.content, torch.Tensor):
                originals[row] = query.content
        return originals


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def _rows_of(found: Neighbours, rows: Sequence[int]) -> Neighbours:
    if len(rows) == len(found.ids):
        return found
    return Neighbours(
        ids=found.ids[rows],
        similarities=found.similarities[rows],
        values=found.values[rows],
        keys=found.keys[rows],
        mask=found.mask[rows],
    )


def _weights(queries: Sequence[Query]) -> FloatArray | None:
    """(B,), NaN where a query names none; None if no query does, for a fusion that takes no weights."""
    if all(query.weight is None for query in queries):
        return None
    return np.array([np.nan if query.weight is None else query.weight for query in queries], dtype=np.float32)


def _read_pictures(folder: str | None) -> list[bytes] | None:
    """The files of a folder, in the order of their names; None for no folder.

    Raises:
        EncoderError: int8_pictures, if they cannot be read.
    """
    if folder is None:
        return None
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
        return [path.read_bytes() for path in files[:MAX_PICTURES]]
    except OSError as error:
        told = f"The folder of RECO_INT8_PICTURES cannot be read: {error.strerror}."
        raise EncoderError("int8_pictures", told) from None


def describe_memory(engine: Engine) -> Mapping[str, object]:
    """What `GET /memory` says of the memory itself; probe vectors are left out for their length."""
    memory = engine.memory
    return {
        "memory_version": memory.version,
        "digest": memory.digest,
        "num_items": memory.num_items,
        "embed_dim": memory.embed_dim,
        "encoder": {name: value for name, value in memory.encoder.items() if name != "probes"},
        "indices": memory.indices(),
        "segments": memory.segments(),
    }
