"""Whom a build employs of a Ray cluster: a worker on each machine that has room, and when it is in vain."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from memory_builder.encoding.mapper import Mapper
from memory_builder.engines.ray.machines import Machine, Patience, machines
from memory_builder.engines.ray.member import Member, Ref
from memory_builder.engines.ray.worker import Assignment, UnitWorker
from memory_builder.errors import EngineError

_LOOK_S: Final = 2.0  # between two looks for machines that came or went
_TELL_S: Final = 20.0  # without a worker, before it is said; Ray takes seconds to start one
_GIVE_UP_S: Final = 600.0  # without a worker
_START_S: Final = 120.0  # for Ray to start a worker where there was room: others may have been faster
MOST_LOSSES: Final = 5  # of workers over one unit, or of workers of one machine that never opened the encoder
LOGS: Final = "Ray's logs tell why (/tmp/ray/session_latest/logs on that machine)"


class Recruiter:
    """Keeps a crew as large as the cluster that Ray is connected to allows."""

    def __init__(self, assignment: Assignment, say: Callable[[str], object]) -> None:
        self._config = assignment.config
        self._on_gpu = assignment.source.device.startswith("cuda")
        self._assignment = assignment
        self._never_opened: Counter[str] = Counter()
        self._looked_at = 0.0
        self._orders: dict[int, Ref] = {}
        self._last_loss = ""
        self._patience = Patience(say, _TELL_S, _GIVE_UP_S)

    def fill(self, members: list[Member]) -> None:
        """Add workers to a crew: on every machine, or for each of its GPUs, wherever others leave room for one.

        Raises:
            EngineError: engine_empty, engine_workers_lost.
        """
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        for member in [one for one in members if one.starting is not None and now - one.asked_at > _START_S]:
            members.remove(member)
            ray.kill(member.actor)
        there = machines(on_gpu=self._on_gpu)
        able = [machine for machine in there if self._never_opened[machine.node] < MOST_LOSSES]
        if not able and not members:
            raise self._nobody(bool(there))
        for machine in able:
            self._fill_machine(machine, members, now)
        working = any(member.starting is None for member in members)
        if self._patience.ends(now, working=working, wanted=self._wanted):
            raise EngineError(
                "engine_empty",
                f"For {_GIVE_UP_S / 60:.0f} minutes other work has had all of the Ray cluster: `ray status` shows what "
                f"is free. A worker needs {self._wanted}; the same command goes on from here.",
            )

    def note_loss(self, member: Member, why: str) -> None:
        """A worker is gone: its successor is looked for at once, unless its machine never gets one to work."""
        self._last_loss = why
        if not member.opened:
            self._never_opened[member.node] += 1
        self._looked_at = 0.0

    def _fill_machine(self, machine: Machine, members: list[Member], now: float) -> None:
        """Employ as many workers on a machine as it takes and has room for."""
        while True:
            mine = [member for member in members if member.node == machine.node]
            taken = Counter[str]()
            for member in mine:
                taken.update(member.needs if member.starting is not None or member.asked_at == now else {})
            cpus = machine.room(taken, on_gpu=self._on_gpu)
            if len(mine) >= machine.places or not cpus:
                return
            members.append(self._employ(machine.node, min(self._config.workers or cpus, cpus), now))

    def _employ(self, node: str, cpus: int, now: float) -> Member:
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
        return Member(node, actor, needs, now, self._orders[cpus], actor.there.remote())

    def _nobody(self, has_places: bool) -> EngineError:
        if has_places:
            return EngineError(
                "engine_workers_lost",
                f"No machine of the cluster opened the encoder in {MOST_LOSSES} tries: its workers ended, the last "
                f"with: {self._last_loss} {LOGS}. RECO must be installed on every machine.",
            )
        return EngineError(
            "engine_empty", f"No machine of the Ray cluster offers {self._wanted}: `ray status` shows what it has."
        )

    @property
    def _wanted(self) -> str:
        return "a GPU" if self._on_gpu else "a free core"
