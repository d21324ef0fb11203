"""The workers of a build on a Ray cluster: recruited where there is a machine, asked for units, replaced when lost."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from memory import check_encoder
from memory_builder.encoding.mapper import Checkpoint, Mapper
from memory_builder.engines.code_identity import code_identity
from memory_builder.engines.ray.machines import Machine, Patience, machines
from memory_builder.engines.ray.worker import Assignment, Counts, UnitWorker
from memory_builder.errors import EngineError
from memory_builder.planning.plan import Unit

_TICK_S: Final = 0.2  # how long a signal or the progress bar may wait
_TOLD_S: Final = 1.0  # between two reports of a worker
_LOOK_S: Final = 2.0  # between two looks for machines that came or went
_TELL_S: Final = 20.0  # without a worker, before it is said; Ray takes seconds to start one
_GIVE_UP_S: Final = 600.0  # without a worker
_START_S: Final = 120.0  # for Ray to start a worker where there was room: others may have been faster
_MOST_LOSSES: Final = 5  # of workers over one unit, or of workers of one machine that never opened the encoder
_LOGS: Final = "Ray's logs tell why (/tmp/ray/session_latest/logs on that machine)"

Ref = Any  # of Ray, whose types say nothing


@dataclass(eq=False)
class _Member:
    """A worker, and what it was asked for.

    Attributes:
        node: of Ray, on which it runs.
        actor: Ray's handle.
        needs: of its machine.
        asked_at: when Ray was asked for it.
        order: its assignment, in Ray's store.
        starting: until Ray has started it and it has told its RECO.
        opening: from then until the encoder is open.
        opened: it takes units.
        units: under way.
        telling: a report that is awaited.
        told_at: when it last reported.
        seconds: as in Lanes.
    """

    node: str
    actor: Any
    needs: Mapping[str, float]
    asked_at: float
    order: Ref
    starting: Ref | None
    opening: Ref | None = None
    opened: bool = False
    units: dict[Ref, Unit] = field(default_factory=dict)
    telling: Ref | None = None
    told_at: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def awaited(self) -> list[Ref]:
        return [*self.units, *(ref for ref in (self.starting, self.opening, self.telling) if ref is not None)]


class Crew:
    """Workers on all machines of the cluster that Ray is connected to."""

    def __init__(
        self, assignment: Assignment, record: Mapping[str, Any], say: Callable[[str], object] = lambda sentence: None
    ) -> None:
        self._config = assignment.config
        self._on_gpu = assignment.source.device.startswith("cuda")
        self._record = record
        self._code = code_identity()
        self._assignment = assignment
        self._numbers = {id(reader): number for number, reader in enumerate(assignment.readers)}
        self._members: list[_Member] = []
        self._never_opened: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._counts: dict[str, Counts] = {}
        self._looked_at = 0.0
        self._orders: dict[int, Ref] = {}
        self._last_loss = ""
        self._patience = Patience(say, _TELL_S, _GIVE_UP_S)

    def finish(
        self, units: Sequence[Unit], checkpoint: Checkpoint, lanes: Callable[[Mapping[str, float]], None]
    ) -> Generator[str, None, None]:
        """As in Engine."""
        waiting = deque(units)
        told = (0, 0)
        while waiting or any(member.units for member in self._members):
            self._recruit()
            self._hand_out(waiting)
            awaited = {ref: member for member in self._members for ref in member.awaited()}
            ready, _ = ray.wait(list(awaited), num_returns=1, timeout=_TICK_S) if awaited else ([], [])
            finished = [unit for ref in ready if (unit := self._heard(ref, awaited[ref], waiting)) is not None]
            read, rejected = (sum(count) for count in zip((0, 0), *self._counts.values(), strict=True))
            checkpoint(read - told[0], rejected - told[1])
            told = read, rejected
            lanes(_added(member.seconds for member in self._members))
            yield from finished
            if not awaited:
                time.sleep(_TICK_S)

    def dismiss(self) -> None:
        """Let all workers go, whatever they are doing."""
        idle = [member.actor.close.remote() for member in self._members if not member.awaited()]
        if idle:
            ray.wait(idle, num_returns=len(idle), timeout=5)
        for member in self._members:
            ray.kill(member.actor)
        self._members = []

    def _recruit(self) -> None:
        """Have a worker on every machine, or for each of its GPUs, wherever others leave room for one."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for member in [one for one in self._members if one.starting is not None and now - one.asked_at > _START_S]:
            self._members.remove(member)
            ray.kill(member.actor)
        there = machines(on_gpu=self._on_gpu)
        able = [machine for machine in there if self._never_opened[machine.node] < _MOST_LOSSES]
        if not able and not self._members:
            raise self._nobody(bool(there))
        for machine in able:
            self._fill(machine, now)
        working = any(member.starting is None for member in self._members)
        if self._patience.ends(now, working=working, wanted=self._wanted):
            raise EngineError(
                "engine_empty",
                f"For {_GIVE_UP_S / 60:.0f} minutes other work has had all of the Ray cluster: `ray status` shows what "
                f"is free. A worker needs {self._wanted}; the same command goes on from here.",
            )

    def _fill(self, machine: Machine, now: float) -> None:
        """Employ as many workers on a machine as it takes and has room for."""
        while True:
            mine = [member for member in self._members if member.node == machine.node]
            taken = Counter[str]()
            for member in mine:
                taken.update(member.needs if member.starting is not None or member.asked_at == now else {})
            cpus = machine.room(taken, on_gpu=self._on_gpu)
            if len(mine) >= machine.places or not cpus:
                return
            self._members.append(self._employ(machine.node, min(self._config.workers or cpus, cpus), now))

    def _employ(self, node: str, cpus: int, now: float) -> _Member:
        if cpus not in self._orders:  # one copy a cluster, not one a worker
            config = replace(self._config, workers=cpus)
            self._orders[cpus] = ray.put(replace(self._assignment, config=config))
        needs = {"CPU": cpus, "GPU": 1 if self._on_gpu else 0}
        actor = (
            ray.remote(UnitWorker)
            .options(
                num_cpus=needs["CPU"],
                num_gpus=needs["GPU"],
                max_concurrency=Mapper.units_at_once + 1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote()
        )
        return _Member(node, actor, needs, now, self._orders[cpus], actor.there.remote())

    def _hand_out(self, waiting: "deque[Unit]") -> None:
        """Each worker gets a unit, and then each a second one, as long as there are any; and is asked how far it is."""
        opened = [member for member in self._members if member.opened]
        for count in range(Mapper.units_at_once):
            for member in opened:
                if waiting and len(member.units) == count:
                    unit = waiting.popleft()
                    ref = member.actor.finish.remote(unit.id, self._numbers[id(unit.reader)], unit.piece)
                    member.units[ref] = unit
        for member in opened:
            if member.units and member.telling is None and time.monotonic() - member.told_at > _TOLD_S:
                member.telling, member.told_at = member.actor.told.remote(), time.monotonic()

    def _heard(self, ref: Ref, member: _Member, waiting: "deque[Unit]") -> str | None:
        """Take in what a worker answered, or that it is lost; the id of the unit that is finished by it, if one is."""
        if member not in self._members:
            return None  # lost already, with all it was asked for
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            raise error.cause from None  # what our code raised there, as it would have here
        except RayError as error:
            self._last_loss = str(error).strip().splitlines()[-1]
            self._lose(member, waiting)
            return None
        if ref == member.starting:
            _check_code(self._code, answer, member.node)
            member.starting, member.opening = None, member.actor.open.remote(member.order)
        elif ref == member.opening:
            check_encoder(self._record, answer)
            member.opening, member.opened = None, True
        elif ref == member.telling:
            counts, member.seconds = answer
            for unit_id, count in counts.items():
                self._counts[unit_id] = max(count, self._counts.get(unit_id, (0, 0)))  # done again, it begins again
            member.telling = None
        else:
            unit = member.units.pop(ref)
            self._counts[unit.id] = answer
            return unit.id
        return None

    def _lose(self, member: _Member, waiting: "deque[Unit]") -> None:
        """Forget a worker that is gone, or not reached, and have others do its units."""
        self._members.remove(member)
        ray.kill(member.actor)  # one that is only not reached should not go on beside its successor
        if not member.opened:
            self._never_opened[member.node] += 1
        for unit in reversed(member.units.values()):
            self._losses[unit.id] += 1
            if self._losses[unit.id] >= _MOST_LOSSES:
                raise EngineError(
                    "engine_workers_lost",
                    f"{_MOST_LOSSES} workers were lost over the same unit of {unit.reader.name}: out of memory, or a "
                    f"file that breaks the decoder; {_LOGS}. The same command goes on from here; with fewer --workers "
                    "each needs less memory.",
                )
            waiting.appendleft(unit)
        self._looked_at = 0.0

    def _nobody(self, has_places: bool) -> EngineError:
        if has_places:
            return EngineError(
                "engine_workers_lost",
                f"No machine of the cluster opened the encoder in {_MOST_LOSSES} tries: its workers ended, the last "
                f"with: {self._last_loss} {_LOGS}. RECO must be installed on every machine.",
            )
        return EngineError(
            "engine_empty", f"No machine of the Ray cluster offers {self._wanted}: `ray status` shows what it has."
        )

    @property
    def _wanted(self) -> str:
        return "a GPU" if self._on_gpu else "a free core"


def _check_code(ours: str, theirs: str, node: str) -> None:
    """Refuse a machine whose units might not be ours.

    Raises:
        EngineError: engine_version.
    """
    if theirs != ours:
        address = next((one["NodeManagerAddress"] for one in ray.nodes() if one["NodeID"] == node), "A machine")
        raise EngineError(
            "engine_version",
            f"{address} has RECO {theirs}, and this command is RECO {ours}: their units would not make one memory. "
            "Install the same RECO on every machine of the cluster.",
        )


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for seconds in parts:
        sums.update(seconds)
    return dict(sums)
