"""What all tables of one world share: the fitted fusions, the frozen outcomes, and what was chosen on validation."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from evaluation.ablations.arrangement import PAPER, Arrangement
from evaluation.ablations.bench import Bench, Outcomes
from evaluation.ablations.conditions import Condition, whole
from evaluation.ablations.figures import Row, row_of
from evaluation.ablations.methods import Method, both_ways, frozen
from evaluation.ablations.trained import Plan, train_and_measure
from evaluation.bootstrap import Bootstrap
from evaluation.label_sets import label_set_weights
from models.fusion import Fusion

DEFAULT = ("label set", "both")  # as the service classifies
ALONE = ("stand-alone", "both")
Report = Callable[[str, int, int], None]
Gridded = Callable[[Sequence[Any], int], Method]


@dataclass
class Context:
    """One bench and what was found on it so far.

    Attributes:
        chosen: numbers that were chosen on validation classes, by the name of the row.
    """

    bench: Bench
    bootstrap: Bootstrap
    report: Report = lambda *_: None
    chosen: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def fusions(self) -> list[Fusion]:
        """The default design, by seed."""
        return self.bench.fitted()

    @cached_property
    def frozen(self) -> Outcomes:
        """CLIP alone."""
        return self.bench.measure(lambda _: frozen)[""]

    @cached_property
    def refined(self) -> dict[Hashable, Outcomes]:
        """The default design by way and scoring."""
        return self.of(self.fusions)

    @property
    def default(self) -> Outcomes:
        """The default design as the service classifies by it."""
        return self.refined[DEFAULT]

    def under(self, condition: Condition) -> dict[Hashable, Outcomes]:
        """The default design with another memory."""
        return self.of(self.fusions, condition=condition)

    def of(
        self, fusions: Sequence[Fusion], arrangement: Arrangement = PAPER, condition: Condition = whole
    ) -> dict[Hashable, Outcomes]:
        """Fusions, one a seed, by way (`label set`, `stand-alone`) and scoring."""
        return self.bench.measure(lambda seed: both_ways(fusions[seed], arrangement), condition)

    def trained(self, plan: Plan) -> Outcomes:
        """What training by gradient reaches; notes what was chosen."""
        found = train_and_measure(self.bench, plan, lambda done, total: self.report(plan.title, done, total))
        self.chosen[plan.title] = found.choice
        return found.outcomes

    def label_set_weights(self) -> dict[str, list[dict[str, float]]]:
        """What the label sets of the first part were given, by column and seed: weights, and the share unknown."""
        found: dict[str, list[dict[str, float]]] = {}
        for fusion, world in zip(self.fusions, self.bench.worlds, strict=True):
            part = world.parts[0]
            for column, question in part.questions.items():
                memory, k = part.items.memory(), fusion.config.k
                weights = label_set_weights(question.class_texts, memory, fusion, k, question.names)
                assert weights is not None, "the default design has weights"
                found.setdefault(column, []).append({name: round(one, 4) for name, one in asdict(weights).items()})
        return found

    def row(self, name: str, outcomes: Outcomes) -> Row:
        """A row with gains over the frozen encoder."""
        return row_of(name, outcomes, self.frozen, self.bootstrap)

    def chosen_row(self, name: str, method: Gridded, grid: Sequence[Any], choosing: Gridded | None = None) -> Row:
        """The row of a method whose point of a grid is chosen on validation classes.

        Args:
            name: of the row.
            method: made for some points and a seed.
            grid: all points.
            choosing: what to choose with, where the method's own fit must not be used for it.
        """
        point = self.bench.choose((choosing or method)(grid, 0))
        self.chosen[name] = list(point) if isinstance(point, tuple) else point
        return self.row(name, self.bench.measure(lambda seed: method([point], seed))[point])
