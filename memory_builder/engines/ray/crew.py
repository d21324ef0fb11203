"""The workers of a build on a Ray cluster: handed units, heard, and what they had in hand given to others when lost."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from memory import check_encoder
from memory_builder.encoding.mapper import Checkpoint, Mapper
from memory_builder.engines.code_identity import code_identity
from memory_builder.engines.ray.member import Member, Ref
from memory_builder.engines.ray.recruiting import LOGS, MOST_LOSSES, Recruiter
from memory_builder.engines.ray.worker import Assignment, Counts
from memory_builder.errors import EngineError
from memory_builder.planning.plan import Unit

_TICK_S: Final = 0.2  # how long a signal or the progress bar may wait
_TOLD_S: Final = 1.0  # between two reports of a worker


class Crew:
    """Workers on all machines of the cluster that Ray is connected to."""

    def __init__(
        self, assignment: Assignment, record: Mapping[str, Any], say: Callable[[str], object] = lambda sentence: None
    ) -> None:
        self._record = record
        self._code = code_identity()
        self._recruiter = Recruiter(assignment, say)
        self._numbers = {id(reader): number for number, reader in enumerate(assignment.readers)}
        self._members: list[Member] = []
        self._losses: Counter[str] = Counter()
        self._counts: dict[str, Counts] = {}

    def finish(
        self, units: Sequence[Unit], checkpoint: Checkpoint, lanes: Callable[[Mapping[str, float]], None]
    ) -> Generator[str, None, None]:
        """As in Engine."""
        waiting = deque(units)
        told = (0, 0)
        while waiting or any(member.units for member in self._members):
            self._recruiter.fill(self._members)
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

    def _heard(self, ref: Ref, member: Member, waiting: "deque[Unit]") -> str | None:
        """Take in what a worker answered, or that it is lost; the id of the unit that is finished by it, if one is."""
        if member not in self._members:
            return None  # lost already, with all it was asked for
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            raise error.cause from None  # what our code raised there, as it would have here
        except RayError as error:
            self._recruiter.note_loss(member, str(error).strip().splitlines()[-1])
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

    def _lose(self, member: Member, waiting: "deque[Unit]") -> None:
        """Forget a worker that is gone, or not reached, and have others do its units."""
        self._members.remove(member)
        ray.kill(member.actor)  # one that is only not reached should not go on beside its successor
        for unit in reversed(member.units.values()):
            self._losses[unit.id] += 1
            if self._losses[unit.id] >= MOST_LOSSES:
                raise EngineError(
                    "engine_workers_lost",
                    f"{MOST_LOSSES} workers were lost over the same unit of {unit.reader.name}: out of memory, or a "
                    f"file that breaks the decoder; {LOGS}. The same command goes on from here; with fewer --workers "
                    "each needs less memory.",
                )
            waiting.appendleft(unit)


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
