"""`reco train`: the fusion layer, on cached embeddings: minutes, not days."""

from pathlib import Path
from typing import Annotated

import typer

from reco.console import console, progress_bar, stop


def train(
    memory: Annotated[Path, typer.Argument(help="A memory made by `reco build`.", metavar="MEMORY")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the checkpoint.", metavar="FUSION")
    ],
    design: Annotated[
        str,
        typer.Option(
            help="[bold]copy[/]: starts at CLIP and learns what to add; the default. "
            "[bold]gate[/]: a few parameters, for a few hundred pairs. "
            "[bold]faithful[/]: the paper's layer, for millions of pairs."
        ),
    ] = "copy",
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="Train on items whose key matches this pattern, like 'shop/*'. Repeatable. Default: all."
        ),
    ] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option(
            help="Validate on items whose key matches; they are not trained on. Default: a random 5 %."
        ),
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="Neighbours a query.")] = 10,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the pairs; the design's recipe by default.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Pairs a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Peak learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and draws.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = "auto",
) -> None:
    """Train the fusion layer on the pairs of a memory.

    Every pair is a query to the memory that holds it; it never retrieves itself or a copy of its image. The encoder
    is frozen and not needed: the embeddings lie in the memory. The epoch that does best on the validation pairs is
    kept. Example:

        reco train my-memory -o my-fusion
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
    opened = Memory.open(memory)
    changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    config = recipe(design, opened.embed_dim, k=k, seed=seed, **changes)
    training_ids, validation_ids = split_by_key(opened, pairs or ["*"], validate or [], seed=seed)
    console.print(
        f"{len(training_ids):,} pairs to train on, {len(validation_ids):,} to validate, design {design}"
    )
    with progress_bar() as progress:
        task = progress.add_task("neighbours", total=2)
        training_pairs = TrainingPairs.from_memory(opened, training_ids)
        progress.advance(task)
        validation_pairs = TrainingPairs.from_memory(opened, validation_ids)
        progress.advance(task)
        task = progress.add_task("training", total=config.epochs * len(training_pairs))
        history: list[float] = []

        def report(epoch: "EpochReport") -> None:  # type: ignore[name-defined]  # noqa: F821
            history.append(epoch.validation)
            progress.update(task, completed=epoch.epoch * len(training_pairs))
            progress.update(task, description=f"training, validation loss {epoch.validation:.3f}")

        fusion = train_fusion(training_pairs, config, validation_pairs, report, choose_device(device))
    trained = {
        "memory_digest": opened.digest,
        "pairs": len(training_pairs),
        "validation_pairs": len(validation_pairs),
        "validation_loss": min(history),
        "seed": seed,
        "epochs": config.epochs,
    }
    checkpoint = save_fusion(output, fusion, opened.manifest.encoder, trained)
    console.print(f"fusion {checkpoint} in {output}: validation loss {min(history):.3f}")
    console.print(f"next: [bold]reco serve --memory {memory} --fusion {output}[/]")
