"""`reco train`: the fusion, on cached embeddings: seconds in closed form, minutes by gradient."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from reco.console import Bar, console, stop
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory import Memory
    from models.fusion import Design, Fusion
    from models.training import EpochReport, TrainConfig
    from models.training.entity_pairs import EntityPairs

AUTO = "auto"

MemoryPath = Annotated[Path, typer.Argument(help="A memory made by `reco build`.", metavar="MEMORY")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory for the checkpoint.", metavar="FUSION")]
DesignName = Annotated[
    str,
    typer.Option(
        "--design",
        metavar="NAME",
        help="[bold]auto[/]: measure on held-out entities and take the best. [bold]evidence[/]: in closed form, for "
        "memories with several pairs an entity. [bold]copy[/]: starts at CLIP and learns what to add. [bold]gate[/]: a "
        "few parameters, for a few hundred pairs. [bold]faithful[/]: the paper's layer, for millions of pairs.",
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
        "items of classes that training does not show, if you can. For designs trained by gradient.",
        metavar="KEYS",
    ),
]
Neighbours = Annotated[int, typer.Option("--k", min=1, max=100, help="Neighbours a query.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the pairs; the design's recipe by default.")]
BatchSize = Annotated[int | None, typer.Option(min=2, help="Pairs a step; the design's recipe by default.")]
LearningRate = Annotated[float | None, typer.Option(min=0, help="Its peak; the design's recipe by default.")]
Seed = Annotated[int, typer.Option(help="Of the weights, the order and all draws.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps or auto.", envvar="RECO_DEVICE")]


def train(
    memory: MemoryPath,
    output: Output,
    design: DesignName = AUTO,
    names: Names = None,
    folders: Folders = False,
    pairs: Pairs = None,
    validate: Validate = None,
    k: Neighbours = 10,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the fusion on the pairs of a memory.

    The encoder is frozen and not needed: its embeddings lie in the memory. Training needs to know which pairs show the
    same thing (the same species, product, model): by a list of names, by folder, or by equal captions. With several
    pairs of most things, the evidence design is fitted in seconds. Without, a design that is trained by gradient on
    single pairs is used: every pair is a query to the memory that holds it, and never retrieves itself.

    Example: reco train my-memory -o my-fusion --names products.txt
    """
    from memory import Memory
    from models.checkpoint import save_fusion
    from models.fusion import DESIGNS
    from models.training.choice import choose

    if design != AUTO and design not in DESIGNS:
        stop(f"unknown design {design!r}: choose one of {AUTO}, {', '.join(DESIGNS)}", code=2)
    opened = Memory.open(memory, stamps=stamp_directory())
    changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    loop = _Loop(opened, pairs or ["*"], validate or [], {"k": k, "seed": seed, **changes}, device)
    entity_pairs = None if design not in (AUTO, "evidence") else _entity_pairs(opened, loop.chosen(), names, folders)
    if isinstance(entity_pairs, str):
        if design != AUTO:
            stop(f"{entity_pairs}; name the things to tell apart with --names, or take another --design", code=2)
        design = "gate" if len(loop.chosen()) < 1000 else "copy"
        console.print(f"design {design}: {entity_pairs}; see --names and --folders", soft_wrap=True)
        entity_pairs = None
    if design == AUTO:
        assert entity_pairs is not None
        choice = choose(entity_pairs, k, seed)
        console.print(choice.reason, soft_wrap=True)
        design = choice.design
    if design == "evidence":
        assert entity_pairs is not None
        fusion, trained = _fit(entity_pairs, opened.embed_dim, k, seed)
    else:
        fusion, trained = loop.train(design)
    checkpoint = save_fusion(output, fusion, opened.manifest.encoder, {"memory_digest": opened.digest, **trained})
    console.print(f"fusion {checkpoint} in {output}")
    console.print(f"next: [bold]reco serve --memory {memory} --fusion {output} --model ...[/]")


def _entity_pairs(
    memory: "Memory", chosen: "NDArray[np.int64]", names: Path | None, folders: bool
) -> "EntityPairs | str":
    """The pairs by entity, or a sentence that says why there are none."""
    import numpy as np

    from models.training.entities import NO_ENTITY, by_caption, by_folder, by_names
    from models.training.entity_pairs import EntityPairs

    if names is not None and folders:
        stop("--names and --folders both say which pairs show the same thing: give one of them", code=2)
    if names is not None:
        try:
            listed = names.read_text(encoding="utf-8").splitlines()
            entity, told = by_names(memory.captions(), listed), f"the captions mention the names in {names}"
        except (OSError, ValueError) as error:
            stop(f"--names {names}: {error}", code=2)
    elif folders:
        entity, told = by_folder(memory.keys()), "pairs are grouped by folder"
    else:
        entity, told = by_caption(memory.captions()), "pairs are grouped by equal captions"
    asked = np.full(len(entity), NO_ENTITY)
    asked[chosen] = entity[chosen]
    try:
        pairs = EntityPairs.from_memory(memory, asked)
    except ValueError as error:
        return f"{told}: {error}"
    console.print(f"{pairs.num_entities:,} entities, {len(pairs.image):,} of {len(chosen):,} pairs show one: {told}", soft_wrap=True)
    return pairs


def _fit(pairs: "EntityPairs", embed_dim: int, k: int, seed: int) -> "tuple[Fusion, dict[str, Any]]":
    from models.training.choice import measure
    from models.training.evidence import fit_evidence
    from models.training.recipes import fusion_config

    fusion = fit_evidence(pairs, fusion_config("evidence", embed_dim, k), seed)
    frozen, refined = measure(pairs, None, k), measure(pairs, fusion, k)
    console.print(f"its own entities, named from fresh prompts: frozen {frozen:.1f} %, refined {refined:.1f} %")
    return fusion, {"pairs": len(pairs.image), "entities": pairs.num_entities, "seed": seed}


class _Loop:
    """The gradient designs on this memory, with what the command line says of them."""

    def __init__(
        self, memory: "Memory", keys: list[str], validate: list[str], changes: dict[str, Any], device: str
    ) -> None:
        from models.training.split import split_by_key

        self.memory = memory
        self._changes, self._device = changes, device
        self._parts = split_by_key(memory, keys, validate, seed=changes["seed"])
        self._validate = validate

    def chosen(self) -> "NDArray[np.int64]":
        """Ids of the pairs to train on, with those that only the loop would hold out at random."""
        import numpy as np

        return self._parts[0] if self._validate else np.sort(np.concatenate(self._parts))

    def train(self, design: str) -> "tuple[Fusion, dict[str, Any]]":
        """Train on all chosen pairs; the epoch that does best on the validation pairs is kept."""
        from models.devices import choose_device
        from models.training import TrainingPairs
        from models.training import train as train_fusion

        config = self._recipe(design)
        counts = " to train on, ".join(f"{len(part):,}" for part in self._parts)
        console.print(f"{counts} to validate; searching their neighbours", style="dim")
        training, validation = (TrainingPairs.from_memory(self.memory, ids) for ids in self._parts)
        bar, losses = Bar("training"), list[float]()

        def report(epoch: "EpochReport") -> None:
            losses.append(epoch.validation)
            note = f"validation loss {epoch.validation:.3f}"
            bar.update(epoch.epoch * len(training), epoch.epochs * len(training), note)

        fusion = train_fusion(training, config, validation, report, str(choose_device(self._device)))
        console.print(f"validation loss {min(losses):.3f}, of epoch {losses.index(min(losses)) + 1}")
        trained = {
            "pairs": len(training),
            "validation_pairs": len(validation),
            "validation_loss": min(losses),
            "epochs": config.epochs,
            "seed": config.seed,
        }
        return fusion, trained

    def _recipe(self, design: str) -> "TrainConfig":
        from models.training.recipes import recipe

        return recipe(cast("Design", design), self.memory.embed_dim, **self._changes)
