"""The tables: each answers one question of the paper or of a sceptic. All gains are over frozen CLIP, same queries."""

import torch

from evaluation.ablations.arrangement import ARRANGEMENTS, PAPER, Arrangement
from evaluation.ablations.bench import K
from evaluation.ablations.conditions import (
    Condition,
    before,
    half_mixed_up,
    permuted_captions,
    pooled_with,
    random_memory,
    share,
    whole,
    without_classes,
    without_copies,
)
from evaluation.ablations.context import ALONE, DEFAULT, Context
from evaluation.ablations.figures import Row, Table, net_row, row_of
from evaluation.ablations.references import (
    EVIDENCE_GRID,
    MEAN_GRID,
    MIXING_GRID,
    TIP_GRID,
    fixed_weights,
    mean_fusion,
    score_mixing,
    tip_adapter,
)
from evaluation.ablations.single_pairs import one_each
from evaluation.ablations.trained import DESIGNS, MLP
from evaluation.ablations.world import World
from evaluation.curves import SHARES
from evaluation.refinement import SCORINGS
from models.fusion import Fusion
from models.training.fitting.single_pairs import with_label_sets
from models.training.recipes import fusion_config

NEIGHBOURS = (1, 2, 3, 5, 10, 20)
FROZEN, RECO = "frozen CLIP", "RECO (label set, both)"
WAYS = ("label set", "stand-alone")
CLEAN, RANDOM = "RECO, copies of the queries left out", "RECO, random neighbours"


def sides_table(context: Context) -> Table:
    """Which side to refine, and how the weight is found."""
    rows = [row_of(FROZEN, context.frozen, None, context.bootstrap)]
    rows += [
        context.row(f"{way}: {scoring}", context.refined[way, scoring])
        for way in WAYS
        for scoring in SCORINGS
        if scoring != "none"
    ]
    note = "The default is `label set: both`. Ensemble: the sum of the four scores."
    return Table("sides", "Which side is refined, and how it is weighed", tuple(rows), note)


def controls_table(context: Context) -> Table:
    """What must be beaten, and what is left of the gain."""
    default, random, mlp = context.default, context.under(random_memory)[DEFAULT], context.trained(MLP)
    rows = [context.row(RECO, default), context.row(CLEAN, context.under(without_copies)[DEFAULT])]
    rows += reference_rows(context)
    rows += [context.row(MLP.title, mlp), context.row(RANDOM, random)]
    rows += [
        net_row("RECO, net of the MLP", default, mlp, context.bootstrap),
        net_row("RECO, net of random neighbours", default, random, context.bootstrap),
    ]
    return Table("controls", "Controls, their numbers chosen on validation classes", tuple(rows))


def reference_rows(context: Context) -> list[Row]:
    """The controls without training."""
    return [
        context.chosen_row("mean fusion", lambda grid, _: mean_fusion(grid), MEAN_GRID),
        context.chosen_row("score mixing", lambda grid, _: score_mixing(grid), MIXING_GRID),
        context.chosen_row("Tip-Adapter / k-NN", lambda grid, _: tip_adapter(grid), TIP_GRID),
    ]


def arrangements_table(context: Context) -> Table:
    """Search × fusion: each fitted by the same procedure."""
    note = (
        "`weights on validation`: one weight a side for all queries, chosen on validation classes, instead of what the "
        "label set or the query says: the most that an arrangement can do where that machinery does not suit it."
    )
    return Table("arrangements", "Search × fusion, each refitted", tuple(arrangement_rows(context)), note)


def arrangement_rows(context: Context) -> list[Row]:
    """Four arrangements, three ways to weigh."""
    rows = []
    for done, arrangement in enumerate(ARRANGEMENTS):
        context.report("search × fusion", done, len(ARRANGEMENTS))
        rows += _arrangement_rows(context, arrangement)
    context.report("search × fusion", len(ARRANGEMENTS), len(ARRANGEMENTS))
    return rows


def _arrangement_rows(context: Context, arrangement: Arrangement) -> list[Row]:
    name = arrangement.name
    fusions = context.fusions if arrangement == PAPER else context.bench.fitted(arrangement=arrangement)
    first = context.bench.fitted_for_choosing(arrangement)
    found = context.refined if arrangement == PAPER else context.of(fusions, arrangement)
    return [
        *(context.row(f"{name}: {way}", found[way, "both"]) for way in WAYS),
        context.chosen_row(
            f"{name}: weights on validation",
            lambda grid, seed: fixed_weights(fusions[seed], grid, arrangement),
            EVIDENCE_GRID,
            lambda grid, _: fixed_weights(first, grid, arrangement),
        ),
    ]


def designs_table(context: Context) -> Table:
    """The default beside what is trained by gradient."""
    rows = [context.row(RECO, context.default)]
    rows += [context.row(plan.title, context.trained(plan)) for plan in DESIGNS]
    note = "Learning rate and scoring chosen on validation classes."
    return Table("designs", "Designs that are trained by gradient", tuple(rows), note)


def neighbours_table(context: Context) -> Table:
    """How many neighbours; fitted anew for each."""
    rows = []
    for done, k in enumerate(NEIGHBOURS):
        context.report("numbers of neighbours", done, len(NEIGHBOURS))
        fusions = context.fusions if k == K else context.bench.fitted(k)
        rows.append(context.row(f"k = {k}", context.of(fusions)[DEFAULT]))
    context.report("numbers of neighbours", len(NEIGHBOURS), len(NEIGHBOURS))
    return Table("neighbours", "Number of neighbours", tuple(rows), at=NEIGHBOURS)


def memory_size_table(context: Context) -> Table:
    """How much memory; fitted once."""
    rows = []
    for done, size in enumerate(SHARES):
        context.report("memory sizes", done, len(SHARES))
        rows.append(context.row(f"{size:g} of the memory", context.under(share(size))[DEFAULT]))
    context.report("memory sizes", len(SHARES), len(SHARES))
    return Table("memory_size", "Size of the memory", tuple(rows), at=SHARES)


def update_table(context: Context) -> Table:
    """A memory that grows after fitting."""
    conditions = (("before: without what was added later", before), ("after", whole))
    rows = [context.row(name, context.under(condition)[DEFAULT]) for name, condition in conditions]
    return Table("update", "The memory updated after fitting", tuple(rows))


def harm_table(context: Context) -> Table:
    """Memories that should do no good: how much harm do they do?"""
    noise = context.bench.worlds[0].noise
    conditions: list[tuple[str, Condition]] = [
        ("random neighbours", random_memory),
        ("without the queried classes", without_classes),
        ("permuted captions", permuted_captions),
    ]
    conditions += [] if noise is None else [("pooled, noisy captions", pooled_with(noise))]
    rows = []
    for done, (name, condition) in enumerate(conditions):
        context.report("harm", done, len(conditions))
        found = context.under(condition)
        rows += [context.row(f"{name}: {way}", found[way, "both"]) for way in WAYS]
    context.report("harm", len(conditions), len(conditions))
    return Table("harm", "Memories that should do no good", tuple(rows))


def weak_names_table(context: Context, sigma: float) -> Table:
    """The same world with names that CLIP knows less well."""
    rows = [
        row_of(FROZEN, context.frozen, None, context.bootstrap),
        context.row(RECO, context.default),
        context.row("RECO (label set, ensemble)", context.refined["label set", "ensemble"]),
        context.row("RECO (stand-alone, both)", context.refined[ALONE]),
        context.row("RECO, without the queried classes", context.under(without_classes)[DEFAULT]),
        *reference_rows(context),
        *(row for row in arrangement_rows(context) if not row.name.startswith(PAPER.name)),
    ]
    return Table(f"weak_names_{sigma:g}", f"Weak names, sigma {sigma:g}", tuple(rows))


def other_words_table(context: Context, sigma: float) -> Table:
    """Labels in other words than the captions, with names that CLIP knows as they are, or less well."""
    rows = [row_of(FROZEN, context.frozen, None, context.bootstrap), context.row(RECO, context.default)]
    rows += [
        context.row(f"RECO, {name}", context.under(condition)[DEFAULT])
        for name, condition in (
            ("without the queried classes", without_classes),
            ("permuted captions", permuted_captions),
        )
    ]
    return Table(f"other_words_{sigma:g}", f"Labels in other words, sigma {sigma:g}", tuple(rows))


def single_pairs_table(context: Context, sigma: float) -> Table:
    """Memories of one pair an entity; what RECO is fitted on has several, and in one row one as well."""
    singly = [_fitted_singly(world, seed) for seed, world in enumerate(context.bench.worlds)]
    rows = [
        row_of(FROZEN, context.frozen, None, context.bootstrap),
        context.row(RECO, context.default),
        context.row("RECO, fitted on single pairs too", context.of(singly)[DEFAULT]),
        *reference_rows(context),
    ]
    rows += [
        context.row(f"RECO, {name}", context.under(condition)[DEFAULT])
        for name, condition in (
            ("without the queried classes", without_classes),
            ("permuted captions", permuted_captions),
            ("half of the captions permuted", half_mixed_up),
        )
    ]
    return Table(f"single_pairs_{sigma:g}", f"One pair a class, sigma {sigma:g}", tuple(rows))


def _fitted_singly(world: World, seed: int) -> Fusion:
    """What `reco train` computes for label sets where no two pairs are known to show the same thing."""
    items = world.training.kept(one_each(world.training, seed))
    alone = Fusion(fusion_config("gate", items.image.shape[1], K)).eval()  # no label set sees it
    return with_label_sets(alone, torch.from_numpy(items.image), torch.from_numpy(items.text), seed)
