"""What runs on a machine of the cluster: an encoder, a mapper, and a unit at a time, or two.

Knows nothing of Ray: an object in a process of its own, whose methods are called from several threads.
"""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory.format.work_files import WORK
from memory_builder.config import BuildConfig
from memory_builder.engines.code_identity import code_identity
from memory_builder.engines.engine import map_whole
from memory_builder.errors import EngineError
from memory_builder.known_keys import KnownKeys
from memory_builder.planning.plan import Unit
from memory_builder.planning.task import UnitMapper
from memory_builder.readers import Piece, Reader
from memory_builder.reporting.build_log import log_unit
from memory_builder.units.store import UnitStore

Counts = tuple[int, int]
"""Rows read of a unit so far, and rows rejected."""


@dataclass(frozen=True)
class EncoderSource:
    """What every machine opens the encoder from, as `Encoder.open` takes it; the device is of one kind on all."""

    model: str
    pretrained: str | None
    device: str
    dtype: str


@dataclass(frozen=True)
class Assignment:
    """What the workers of one build have in common.

    Attributes:
        config: of the build; `workers` are the cores of one worker.
        source: of the encoder.
        known: keys of the memory as the build began.
        readers: of the corpus, by number.
        folder: in which the command was given, and relative paths begin.
        token: a file in the memory's work folder, by which a worker knows that it sees the same folder.
    """

    config: BuildConfig
    source: EncoderSource
    known: KnownKeys
    readers: tuple[Reader[Any], ...]
    folder: str
    token: str


class UnitWorker:
    """Maps units and saves them where the building process looks for them."""

    _assignment: Assignment

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._counts: dict[str, Counts] = {}
        self._lock = threading.Lock()

    def there(self) -> str:
        """Which RECO this is: answered as soon as Ray has started the worker, before anything of ours is sent."""
        return code_identity()

    def open(self, assignment: Assignment) -> Mapping[str, Any]:
        """Open the encoder; its record, which the building process compares with its own.

        Raises:
            EngineError: engine_paths, if the memory is not the one that the building process has.
            EncoderError: it cannot be opened here.
        """
        self._assignment = assignment
        config, source = assignment.config, assignment.source
        self._enter_folder()
        from memory_builder.encoding.mapper import open_mapper
        from models.encoder import Encoder

        encoder = Encoder.open(source.model, source.pretrained, device=source.device, dtype=source.dtype)
        self._mapper: UnitMapper = self._stack.enter_context(open_mapper(config, encoder))
        self._store = UnitStore(config.memory)
        return encoder.fingerprint.record()

    def finish(self, unit_id: str, reader: int, piece: Piece) -> Counts:
        """Map a unit and save it, unless another worker has done so by then.

        Raises:
            CorpusError, EncoderError, memory.WriteFailed: as in Engine.
        """
        began = time.monotonic()
        unit = Unit(unit_id, self._assignment.readers[reader], piece)
        with self._lock:
            self._counts[unit_id] = (0, 0)

        def note(rows: int, rejected: int) -> None:
            with self._lock:
                read, refused = self._counts[unit_id]
                self._counts[unit_id] = (read + rows, refused + rejected)

        mapped = map_whole(unit, self._mapper, self._assignment.known, note)
        self._store.save_once(unit_id, mapped)
        log_unit(self._assignment.config.memory, unit_id, piece.rows, time.monotonic() - began)
        with self._lock:
            del self._counts[unit_id]
        return piece.rows, len(mapped.rejected)

    def told(self) -> tuple[dict[str, Counts], Mapping[str, float]]:
        """How far each unit under way is, and where the encoder's time went."""
        with self._lock:
            return dict(self._counts), self._mapper.seconds()

    def close(self) -> None:
        """Let go of the encoder and of decoding processes."""
        self._stack.close()

    def _enter_folder(self) -> None:
        memory = self._assignment.config.memory
        try:
            os.chdir(self._assignment.folder)
            if not (Path(memory) / WORK / self._assignment.token).is_file():
                raise FileNotFoundError(memory)
        except OSError as error:
            raise EngineError(
                "engine_paths",
                f"{os.uname().nodename} does not see the folder of this build: {memory}, seen from "
                f"{self._assignment.folder}. All machines must have corpus and memory under the same paths, on a file "
                "system that they share.",
            ) from error
