"""All tables of a world, one after the other. No file is written here and nothing is printed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from evaluation.ablations.bench import FITTED_SHARE, Bench, K
from evaluation.ablations.context import Context, Report
from evaluation.ablations.figures import Table
from evaluation.ablations.other_words import with_other_words
from evaluation.ablations.single_pairs import with_single_pairs
from evaluation.ablations.tables import (
    arrangements_table,
    controls_table,
    designs_table,
    harm_table,
    memory_size_table,
    neighbours_table,
    other_words_table,
    sides_table,
    single_pairs_table,
    update_table,
    weak_names_table,
)
from evaluation.ablations.weak_names import with_weak_names
from evaluation.ablations.world import World
from evaluation.bootstrap import Bootstrap

FORMAT = 1
SIGMAS = (0.5, 1.0, 1.5)
WORDED_SIGMAS = (0.0, 1.5)
SINGLE_SIGMAS = (0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class AblationConfig:
    """How to ablate.

    Attributes:
        seeds: each has its own share of the training entities, draws and initialisation.
        quick: leave out the designs that are trained by gradient: minutes instead of tens of minutes.
        bootstrap: of the intervals.
    """

    seeds: int = 5
    quick: bool = False
    bootstrap: Bootstrap = field(default_factory=Bootstrap)


@dataclass(frozen=True)
class Ablations:
    """What came out: the tables, the numbers that were chosen on validation, and what was left out and why.

    `weights` are what the label sets were given, of the world as it is under the empty name.
    """

    world: World
    config: AblationConfig
    tables: tuple[Table, ...]
    chosen: dict[str, Any]
    weights: dict[str, Any]
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        bootstrap = self.config.bootstrap
        return {
            "format": FORMAT,
            "world": {"name": self.world.name, **self.world.about},
            "settings": {
                "seeds": self.config.seeds,
                "quick": self.config.quick,
                "k": K,
                "fitted_share": FITTED_SHARE,
                "bootstrap": {"resamples": bootstrap.resamples, "level": bootstrap.level, "seed": bootstrap.seed},
            },
            "tables": {table.key: table.as_dict() for table in self.tables},
            "chosen_on_validation": self.chosen,
            "label_set_weights": {name or "as it is": one for name, one in self.weights.items()},
            "skipped": list(self.skipped),
        }


def ablate(
    world: World,
    config: AblationConfig,
    report: Report = lambda *_: None,
    done: Callable[[Table], None] = lambda _: None,
) -> Ablations:
    """Measure everything.

    Args:
        world: where.
        config: how.
        report: told what is being done, how much of it is done, and how much there is.
        done: given each table as soon as it is there.
    """
    context = Context(Bench.of(world, config.seeds), config.bootstrap, report)
    makers = [sides_table, harm_table, arrangements_table, neighbours_table, memory_size_table, update_table]
    makers += [controls_table] if config.quick else [controls_table, designs_table]
    tables, weights = list[Table](), dict[str, Any]()

    def add(table: Table) -> None:
        tables.append(table)
        done(table)

    for make in makers:
        add(make(context))
    weights[""] = context.label_set_weights()
    chosen: dict[str, Any] = {**context.chosen}

    def add_of(worlds: Iterable[World], make: Callable[[Context, float], Table], sigma: float) -> None:
        """A table of worlds of their own, one a seed."""
        other = Context(Bench(tuple(worlds)), config.bootstrap, report)
        add(make(other, sigma))
        chosen[tables[-1].key] = other.chosen
        weights[tables[-1].key] = other.label_set_weights()

    seeds = range(config.seeds)
    for sigma in SIGMAS if world.weakenable else ():
        add_of((with_weak_names(world, sigma, seed) for seed in seeds), weak_names_table, sigma)
    for sigma in WORDED_SIGMAS if world.weakenable and world.wordings else ():
        add_of((with_other_words(world, sigma, seed) for seed in seeds), other_words_table, sigma)
    for sigma in SINGLE_SIGMAS if world.weakenable else (0.0,):
        add_of((_with_single_pairs(world, sigma, seed) for seed in seeds), single_pairs_table, sigma)
    return Ablations(world, config, tuple(tables), chosen, weights, _skipped(world, config))


def _with_single_pairs(world: World, sigma: float, seed: int) -> World:
    return with_single_pairs(with_weak_names(world, sigma, seed) if sigma else world, seed)


def _skipped(world: World, config: AblationConfig) -> tuple[str, ...]:
    reasons = []
    if config.quick:
        reasons.append("The designs that are trained by gradient: --quick.")
    if world.noise is None:
        reasons.append("The pooled noisy memory: image_pool.npz and class_name_texts.npz do not lie beside the world.")
    if not world.wordings:
        reasons.append("Labels in other words: no class_name_texts.npz with sources lies beside the world.")
    if not world.weakenable:
        reasons.append("Weak names: captions of this world are more than names.")
    return tuple(reasons)
