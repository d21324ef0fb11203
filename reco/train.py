"""`reco train`: the fusion layer, on cached embeddings: minutes, not days."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import Bar, console, stop
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from models.training import EpochReport

MemoryPath = Annotated[Path, typer.Argument(help="A memory made by `reco build`.", metavar="MEMORY")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory for the checkpoint.", metavar="FUSION")]
DesignName = Annotated[
    str,
    typer.Option(
        "--design",
        metavar="NAME",
        help="[bold]copy[/]: starts at CLIP and learns what to add. [bold]gate[/]: a few parameters, for a few "
        "hundred pairs. [bold]faithful[/]: the paper's layer, for millions of pairs.",
    ),
]
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
    design: DesignName = "copy",
    pairs: Pairs = None,
    validate: Validate = None,
    k: Neighbours = 10,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the fusion layer on the pairs of a memory.

    Every pair is a query to the memory that holds it; it never retrieves itself or a copy of its image. The encoder is
    frozen and not needed: its embeddings lie in the memory. The epoch that does best on the validation pairs is kept.

    Example: reco train my-memory -o my-fusion
    """
    from memory import Memory
    from models.checkpoint import save_fusion
    from models.devices import choose_device
    from models.fusion import DESIGNS
    from models.training import TrainingPairs
    from models.training import train as train_fusion
    from models.training.recipes import recipe
    from models.training.split import split_by_key

    if design not in DESIGNS:
        stop(f"unknown design {design!r}: choose one of {', '.join(DESIGNS)}", code=2)
    opened = Memory.open(memory, stamps=stamp_directory())
    changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    config = recipe(design, opened.embed_dim, k=k, seed=seed, **changes)
    parts = split_by_key(opened, pairs or ["*"], validate or [], seed=seed)
    console.print(f"{len(parts[0]):,} pairs to train on, {len(parts[1]):,} to validate; design {design}")
    console.print("searching their neighbours", style="dim")
    training_pairs, validation_pairs = (TrainingPairs.from_memory(opened, ids) for ids in parts)
    bar, losses = Bar("training"), list[float]()

    def report(epoch: "EpochReport") -> None:
        losses.append(epoch.validation)
        note = f"validation loss {epoch.validation:.3f}"
        bar.update(epoch.epoch * len(training_pairs), epoch.epochs * len(training_pairs), note)

    fusion = train_fusion(training_pairs, config, validation_pairs, report, str(choose_device(device)))
    trained = {
        "memory_digest": opened.digest,
        "pairs": len(training_pairs),
        "validation_pairs": len(validation_pairs),
        "validation_loss": min(losses),
        "epochs": config.epochs,
        "seed": seed,
    }
    checkpoint = save_fusion(output, fusion, opened.manifest.encoder, trained)
    best = losses.index(min(losses)) + 1
    console.print(f"fusion {checkpoint} in {output}: validation loss {min(losses):.3f}, of epoch {best}")
    console.print(f"next: [bold]reco serve --memory {memory} --fusion {output} --model ...[/]")
