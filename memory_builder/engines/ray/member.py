"""A worker of the crew, as the building process knows it: where it is, how far it has come, what it was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memory_builder.planning.plan import Unit

Ref = Any  # of Ray, whose types say nothing


@dataclass(eq=False)
class Member:
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
        """All that it was asked for and has not answered."""
        return [*self.units, *(ref for ref in (self.starting, self.opening, self.telling) if ref is not None)]
