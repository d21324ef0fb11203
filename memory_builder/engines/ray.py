"""Units on many machines: Ray actors pull them one by one, each with an encoder of its own (extra `ray`).

All machines must see the corpus and the memory under the same paths: an actor writes its units where the commit will
look for them. Ray schedules and restarts; what is finished is told by the unit store alone, so that an actor, a machine
or the driver may die at any moment. docs/scale.md says how to run it.
"""

import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import check_encoder
from memory_builder.config import BuildConfig
from memory_builder.engines.engine import Job
from memory_builder.errors import EngineFailed
from memory_builder.known_keys import KnownKeys
from memory_builder.mapper import Checkpoint
from memory_builder.plan import Unit
from memory_builder.task import UnitMapper
from memory_builder.units import UnitStore

if TYPE_CHECKING:
    from models.encoder import Encoder

_TICK_S = 0.2  # how long a signal or the progress bar may wait
_MAX_LOSSES = 4  # of actors, over one unit: then the unit is to blame
_IN_HAND = 2  # units an actor works on at a time, as the mapper can


@dataclass(frozen=True)
class EncoderSource:
    """How to open the encoder, on any machine; arguments of `Encoder.open`."""

    model: str
    pretrained: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    def open(self) -> "Encoder":
        """The encoder, on this machine."""
        from models.encoder import Encoder

        return Encoder.open(self.model, self.pretrained, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class RayOptions:
    """Where and how large.

    Attributes:
        address: of a running cluster (`auto`, or `ray://host:10001`); None starts Ray on this machine.
        actors: how many; 0 means as many as the cluster has room for.
        cpus: cores of each actor: it decodes and encodes with that many.
        gpus: accelerators of each actor.
    """

    address: str | None = None
    actors: int = 0
    cpus: int = 1
    gpus: float = 0


@dataclass(frozen=True)
class Encoding:
    """What every machine must encode with: the encoder's record, and the kind of device and dtype."""

    record: Mapping[str, Any]
    encoded_with: Mapping[str, Any]

    @classmethod
    def of(cls, encoder: "Encoder") -> "Encoding":
        """What an encoder that is open here does."""
        return cls(encoder.fingerprint.record(), dict(encoder.fingerprint.encoded_with()))

    def check(self, encoder: "Encoder") -> None:
        """Refuse an encoder that gives other embeddings, or may.

        Raises:
            EngineFailed, memory.EncoderMismatch
        """
        theirs = Encoding.of(encoder)
        check_encoder(self.record, theirs.record)
        if self.encoded_with != theirs.encoded_with:
            raise EngineFailed(
                f"a machine of the cluster encodes with {dict(theirs.encoded_with)}, this one with "
                f"{dict(self.encoded_with)}: name --device and --dtype so that all do alike"
            )


class RayEngine:
    """The engine of a cluster.

    Attributes:
        lost: actors that died in the last run.
    """

    def __init__(self, config: BuildConfig, source: EncoderSource, expected: Encoding, options: RayOptions) -> None:
        self._config, self._source, self._expected, self._options = config, source, expected, options
        self.lost = 0

    def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
        """As in Engine; units come as they are finished.

        Raises:
            EngineFailed: Ray is not installed or not reachable, an actor sees other files or has another encoder, or a
                unit ended several actors.
        """
        if not units:
            return
        ray = _load()
        started = not ray.is_initialized()
        if started:
            _start(ray, self._options.address)
        crew = _Crew(ray, self._worker(ray, job), _size(ray, self._options, len(units)))
        try:
            yield from crew.finish(units, checkpoint)
        finally:
            self.lost = crew.lost
            crew.dismiss()
            if started:
                ray.shutdown()

    def _worker(self, ray: Any, job: Job) -> Callable[[], Any]:
        """Makes actors."""
        options = self._options
        config = replace(self._config, workers=options.cpus)
        known = ray.put(job.known)
        actor = ray.remote(
            num_cpus=options.cpus, num_gpus=options.gpus, max_concurrency=_IN_HAND, max_restarts=0, max_task_retries=0
        )(UnitActor)
        return lambda: actor.remote(config, self._source, self._expected, known)


class UnitActor:
    """An encoder and a mapper in a process of their own; runs inside Ray."""

    def __init__(self, config: BuildConfig, source: EncoderSource, expected: Encoding, known: KnownKeys) -> None:
        self._config, self._source, self._expected, self._known = config, source, expected, known
        self._opening = threading.Lock()
        self._opened: tuple[UnitMapper, UnitStore] | None = None

    def do(self, unit: Unit) -> tuple[int, int]:
        """Map a unit and save it; rows read and rows rejected."""
        with self._opening:
            mapper, store = self._opened = self._opened or self._open()
        mapped = mapper.map_unit(unit.reader.read(unit.piece), self._known, lambda rows, rejected: None)
        store.save(unit.id, mapped)
        return unit.piece.rows, len(mapped.rejected)

    def _open(self) -> tuple[UnitMapper, UnitStore]:
        """Here and not when it is made: what is raised here reaches the driver as it is."""
        import torch

        from memory_builder.builds import open_mapper

        if not (self._config.memory / "work" / "units").is_dir():
            raise EngineFailed(
                f"a machine of the cluster does not see {self._config.memory}: corpus and memory must lie on a file "
                "system that all share, under the same paths"
            )
        torch.set_num_threads(self._config.workers)
        encoder = self._source.open()
        self._expected.check(encoder)
        self._mapper = open_mapper(self._config, encoder)  # kept: it is open for as long as the process lives
        return self._mapper.__enter__(), UnitStore(self._config.memory)


class _Crew:
    """The actors of one build and what each has in hand; a lost one is replaced, and its units are done by others."""

    def __init__(self, ray: Any, hire: Any, size: int) -> None:
        self._ray, self._hire, self._size = ray, hire, size
        self._actors: list[Any] = []
        self._in_hand: dict[Any, tuple[Unit, Any]] = {}  # by the reference of the answer
        self._losses: dict[str, int] = {}
        self.lost = 0

    def finish(self, units: Sequence[Unit], checkpoint: Checkpoint) -> Generator[str, None, None]:
        """Have all units done."""
        waiting = deque(units)
        while waiting or self._in_hand:
            self._hand_out(waiting)
            done, _ = self._ray.wait(list(self._in_hand), num_returns=1, timeout=_TICK_S)
            checkpoint(0, 0)
            for answer in done:
                if answer not in self._in_hand:
                    continue  # of an actor that was lost meanwhile
                unit, actor = self._in_hand.pop(answer)
                try:
                    rows, rejected = self._ray.get(answer)
                except self._ray.exceptions.RayTaskError as error:
                    raise _cause(error) from error
                except self._ray.exceptions.RayActorError as error:
                    self._lose(actor, unit, waiting, error)
                    continue
                checkpoint(rows, rejected)
                yield unit.id
        checkpoint(0, 0)

    def dismiss(self) -> None:
        """End all actors at once: what they had in hand is not finished, and is not there."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors, self._in_hand = [], {}

    def _hand_out(self, waiting: deque[Unit]) -> None:
        """Each actor has something to do, and one unit more."""
        while len(self._actors) < min(self._size, len(waiting) + len(self._in_hand)):
            self._actors.append(self._hire())
        busy = [actor for _, actor in self._in_hand.values()]
        for _ in range(_IN_HAND):
            for actor in self._actors:
                if waiting and busy.count(actor) < _IN_HAND:
                    unit = waiting.popleft()
                    self._in_hand[actor.do.remote(unit)] = (unit, actor)
                    busy.append(actor)

    def _lose(self, actor: Any, unit: Unit, waiting: deque[Unit], error: Exception) -> None:
        """Take an actor's units back; the unit that ended too many is refused."""
        self.lost += 1
        self._actors = [one for one in self._actors if one is not actor]
        held = [unit, *(of for of, by in self._in_hand.values() if by is actor)]
        self._in_hand = {answer: pair for answer, pair in self._in_hand.items() if pair[1] is not actor}
        for one in held:
            self._losses[one.id] = self._losses.get(one.id, 0) + 1
        waiting.extendleft(reversed(held))
        if self._losses[unit.id] >= _MAX_LOSSES:
            told = str(error).strip().splitlines()
            raise EngineFailed(
                f"{_MAX_LOSSES} workers were lost over the same unit of {unit.reader.name}"
                + (f"; Ray says of the last: {told[0]}" if told else "")
            )


def _load() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of ours reports anywhere
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise EngineFailed("ray is not installed: pip install 'reco-clip[ray]'") from error


def _start(ray: Any, address: str | None) -> None:
    # workers import our rooms from where this process found them
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    try:
        ray.init(
            address=address,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineFailed(f"Ray at {address or 'this machine'} cannot be reached: {error}") from error


def _size(ray: Any, options: RayOptions, units: int) -> int:
    """How many actors the cluster has room for, or fewer if that was asked for."""
    end = time.monotonic() + 30
    room = 0
    while not room and time.monotonic() < end:  # machines may still be coming up
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0) // options.cpus)
        if options.gpus:
            room = min(room, int(there.get("GPU", 0) / options.gpus))
        if not room:
            time.sleep(0.5)
    if not room:
        raise EngineFailed(f"no machine of the cluster has {options.cpus} CPUs and {options.gpus:g} GPUs for an actor")
    return min(options.actors or room, room, units)


def _cause(error: Any) -> BaseException:
    """What the actor raised, as it was."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else EngineFailed(str(error).strip().splitlines()[-1])
