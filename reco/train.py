"""`reco train`: the fusion, on cached embeddings: computed in seconds, or trained by gradient in minutes."""

import importlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from models.run_settings import MOST_SEED, RECIPES, check_recipe
from reco.acknowledging import acknowledging
from reco.backend import FAISS, Backend, Kept, TokenFile, Uri, model_option
from reco.console import Bars, console, loading, refuse, say, stop
from reco.counted import counted
from reco.memory_tables import Json, show_json
from reco.model_files import check_device
from reco.remote import AllowRemote, RemoteCache, output_option
from reco.train_entities import EntitiesFound, Listed, SameThing, find_entity_pairs, read_names
from reco.train_evidence import fit_and_measure, with_label_sets
from reco.train_loop import AUTO, Loop, LoopOptions

if TYPE_CHECKING:
    from memory import SearchableMemory
    from models.fusion import Design

FEW_SHOW_ONE = 0.5  # share of the pairs: a memory of single pairs in which some captions are equal
LEAST_ITEMS = 3  # a pair that asks, and two that it may tell apart
GRADIENT = "Designs trained by gradient (copy, gate, faithful)"

MemoryPlace = Annotated[
    str, typer.Argument(help="A memory made by `reco build`, or its address in a store.", metavar="MEMORY")
]
Output = Annotated[Path, output_option("Directory for the checkpoint.", "FUSION")]
DesignName = Annotated[
    str,
    typer.Option(
        "--design",
        metavar="NAME",
        help="[bold]auto[/]: measure on held-out entities and take the best. [bold]evidence[/]: computed in seconds, "
        "where most things have several pairs. [bold]copy[/]: starts at CLIP and learns what to add. [bold]gate[/]: "
        "learns little, from a few hundred pairs. [bold]faithful[/]: the paper's layer, for millions of pairs.",
    ),
]
Names = Annotated[
    Path | None,
    typer.Option(
        help="A text file with the names to tell apart, one a line: pairs whose caption mentions the same name show "
        "the same entity. Without it, equal captions do.",
        metavar="FILE",
    ),
]
Folders = Annotated[bool, typer.Option("--folders", help="Pairs in one folder show the same entity.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option(help="Train on items whose key matches, like 'shop/*'. Repeatable. All by default.", metavar="KEYS"),
]
Validate = Annotated[
    list[str] | None,
    typer.Option(
        help="Validate on items whose key matches, and train on none of them. A random 5 % by default: name "
        "items of classes that training does not show, if you can.",
        metavar="KEYS",
        rich_help_panel=GRADIENT,
    ),
]
Neighbours = Annotated[int, typer.Option("--k", min=1, max=100, help="Neighbours a query.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over the pairs; the recipe's by default.", rich_help_panel=GRADIENT)
]
BatchSize = Annotated[
    int | None, typer.Option(min=2, help="Pairs a step; the recipe's by default.", rich_help_panel=GRADIENT)
]
LearningRate = Annotated[
    str | None,
    typer.Option(
        metavar="RATE|auto",
        help="Its peak; the recipe's by default. [bold]auto[/]: short runs at a few, the best on the validation pairs.",
        rich_help_panel=GRADIENT,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="[bold]paper[/]: the paper's, for ten million pairs. The design's own by default.",
        rich_help_panel=GRADIENT,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a field of the recipe or of the search, like miss=0.3 or near_duplicate=0.95. Repeatable; "
        "docs/training-at-scale.md lists them.",
        rich_help_panel=GRADIENT,
    ),
]
ExcludeSame = Annotated[
    str | None,
    typer.Option(
        "--exclude-same-source",
        metavar="source|folder",
        help="A pair retrieves no item that was read from the same file, or whose key lies in the same folder.",
        rich_help_panel=GRADIENT,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after so many epochs without a better validation loss.", rich_help_panel=GRADIENT),
]
Amp = Annotated[bool, typer.Option("--amp", help="Compute in bfloat16 where that is safe.", rich_help_panel=GRADIENT)]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Begin anew, not where a run was broken off.", rich_help_panel=GRADIENT),
]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the weights, the order and all draws.")]
SeedIfGiven = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=MOST_SEED, help="Of the weights, the order and all draws; 0 by default."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.", envvar="RECO_DEVICE")]


def train(
    memory: MemoryPlace,
    output: Output,
    design: DesignName = AUTO,
    names: Names = None,
    folders: Folders = False,
    pairs: Pairs = None,
    validate: Validate = None,
    k: Neighbours = 10,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    settings: Settings = None,
    exclude_same: ExcludeSame = None,
    patience: Patience = None,
    amp: Amp = False,
    restart: Restart = False,
    seed: SeedIfGiven = None,
    device: Device = "auto",
    backend: Backend = FAISS,
    uri: Uri = None,
    token_file: TokenFile = None,
    as_json: Json = False,
    allow_remote: AllowRemote = None,
    remote_cache: RemoteCache = None,
) -> None:
    """Train the fusion on the pairs of a memory.

    The encoder is frozen and not needed: its embeddings lie in the memory. Training needs to know which pairs show the
    same thing (the same species, product, model; an entity, here): by a list of names, by folder, or by equal captions.
    Where most things have several pairs, what to add to CLIP is computed in seconds (the design "evidence"). Where they
    have one each, it is learned in minutes: each pair asks the memory, which must answer without that pair. Such a run
    keeps in FUSION/work how far it is, and goes on there when it was broken off.

    Example: reco train my-memory -o my-fusion --names products.txt
    """
    options = LoopOptions(
        k=k,
        seed=seed,
        device=device,
        keys=tuple(pairs or ["*"]),
        validate=tuple(validate or []),
        recipe=recipe,
        settings=tuple(settings or []),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        amp=amp,
        exclude_same=exclude_same,
        restart=restart,
    )
    try:
        kept = Kept(memory, backend, uri, token_file, allow_remote, remote_cache)
        with acknowledging("stopping, once the step under way is done"):
            made = _train(kept, output, design, SameThing(names, folders), options)
    except Exception as error:
        refuse(error)
    if as_json and made is not None:
        show_json(made)


def _train(kept: Kept, output: Path, design: str, asked: SameThing, options: LoopOptions) -> dict[str, Any] | None:
    """Choose a design where that is asked, train it, write the checkpoint; `asked` is --names and --folders.

    Returns:
        What was made, for programs; None from all processes but the first.
    """
    names = _checked(design, asked, options)
    if options.recipe and design == AUTO:
        design = RECIPES[options.recipe]
    from models.checkpoint_files import check_output

    check_output(output)
    say(f"opening the memory {kept.where}")
    opened = kept.open()
    _check_size(opened, options.k)
    loading("torch")
    importlib.import_module("torch._dynamo")  # the first optimizer would load it, in silence between two bars
    from memory.format.encoder_record import is_undeclared
    from models.checkpoint import save_fusion
    from models.training.recipes import told as told_recipe

    loop = Loop(opened, output, options)
    by_entity = design in (AUTO, "evidence")
    found = find_entity_pairs(opened, loop.chosen(), names, asked.folders, options.draws) if by_entity else None
    auto, (design, entities, rate) = design == AUTO, _choose(design, found, loop, options)
    say(told_recipe(cast("Design", design), options.recipe), style="dim")
    if design == "evidence" and entities is not None:
        if options.given:
            unused = ", ".join(options.given)
            say(f"without effect: {unused}; evidence is computed, not trained by gradient", style="yellow")
        if options.validate:
            say("the pairs of --validate are left out, and evidence validates on none", style="yellow")
        fusion, trained = fit_and_measure(
            entities.pairs, opened.embed_dim, options.k, options.draws, captions_name=entities.captions_name
        )
    else:
        fusion, trained = loop.train(design, entities, rate)
        if auto and entities is None and len(loop.chosen()) >= LEAST_ITEMS:
            fusion = with_label_sets(fusion, opened, loop.chosen(), options.draws)
    made = None
    if loop.world.is_first:
        trained = {"memory_digest": opened.digest, **trained}
        checkpoint = save_fusion(output, fusion, opened.encoder, trained)
        made = {"fusion": str(output), "checkpoint": checkpoint, "design": design, "k": options.k, **trained}
        loop.forget()
        console.print(f"fusion {checkpoint} in {escape(str(output))}")
        servable = not is_undeclared(opened.encoder)
        named, model = escape(shlex.quote(str(output))), model_option() if servable else ""
        console.print(f"next: [bold]reco eval {escape(kept.arguments)} {named} TEST{model}[/]", soft_wrap=True)
        if servable:
            console.print(f"then: [bold]reco serve {escape(kept.options)} --fusion {named}{model}[/]", soft_wrap=True)
    loop.world.leave()
    return made


def _checked(design: str, asked: SameThing, options: LoopOptions) -> "Listed | None":
    """Refuse what can be before torch is loaded; the names that --names lists, if it was given."""
    from models.designs import DESIGNS

    if design != AUTO and design not in DESIGNS:
        stop(f"unknown design {design!r}: choose one of {AUTO}, {', '.join(DESIGNS)}", code=2)
    unused = options.given + ["--validate"] * bool(options.validate)
    if design == "evidence" and unused:
        stop(f"{unused[0]} is for designs trained by gradient: leave it out, or take another --design", code=2)
    try:
        check_recipe(options.recipe)
    except ValueError as error:
        stop(str(error), code=2)
    trains = RECIPES[options.recipe] if options.recipe else None
    if trains and any(asked):
        stop(f"--recipe {options.recipe} learns from single pairs: --names and --folders have no effect on it", code=2)
    if trains and design not in (AUTO, trains):
        stop(f"--recipe {options.recipe} is of the design {trains}, not of --design {design}: leave one out", code=2)
    if design not in (AUTO, "evidence") and any(asked):
        stop(f"--design {design} learns from single pairs: --names and --folders are for auto and evidence", code=2)
    if asked.names is not None and asked.folders:
        stop("--names and --folders both say which pairs show the same thing: give one of them", code=2)
    try:
        options.changes()
    except ValueError as error:
        stop(str(error), code=2)
    check_device(options.device)
    return None if asked.names is None else read_names(asked.names)


def _check_size(opened: "SearchableMemory", k: int) -> None:
    if opened.num_items < LEAST_ITEMS:
        stop(
            f"the memory holds {counted(opened.num_items, 'item')}, too few to learn from: add pairs with `reco build`",
            code=2,
        )
    if k >= opened.num_items:
        stop(
            f"--k {k}, but the memory holds {counted(opened.num_items, 'item')}: a pair has at most "
            f"{counted(opened.num_items - 1, 'neighbour')}",
            code=2,
        )


def _choose(
    design: str, found: EntitiesFound | str | None, loop: Loop, options: LoopOptions
) -> tuple[str, EntitiesFound | None, float | None]:
    """The design to train, the entities to train it on, and the learning rate if one was chosen.

    A sentence for entities says why there are none. Single pairs are asked where few pairs show an entity and no design
    names those better than the frozen encoder.
    """
    from models.training.choice import choose

    if isinstance(found, str):
        if design != AUTO:
            stop(f"{found}; name the things to tell apart with --names, or take another --design", code=2)
        say(f"{found}; see --names and --folders")
        best = loop.choose().best
        return best.design, None, best.learning_rate
    if design == AUTO:
        assert found is not None
        with Bars() as bars:
            choice = choose(
                found.pairs,
                options.k,
                options.draws,
                bars.update,
                in_all=len(found.ids),
                captions_name=found.captions_name,
            )
        say(choice.reason)
        design = choice.design
        if not choice.gains and len(found.ids) < FEW_SHOW_ONE * len(loop.chosen()):
            by_pairs = loop.choose()
            if by_pairs.gains:
                return by_pairs.best.design, None, by_pairs.best.learning_rate
    return design, found, None
