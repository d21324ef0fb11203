"""`reco train --train-encoder`: fine-tune the whole encoder on a corpus, into a model directory like any other.

A command of its own behind a flag of `reco train`: it reads a corpus instead of a memory, and takes other options.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from reco.build import CaptionColumn, CaptionFromFolder, CaptionTemplate, ImageColumns, KeyColumn, Pretrained
from reco.console import Bar, console, stop
from reco.counted import counted
from reco.remote import output_option
from reco.shell_words import shell
from reco.train import Device, Names, Pairs, Seed

if TYPE_CHECKING:
    from models.sources.opening import OpenedModel
    from models.training.finetuning.finetune import FinetuneConfig, FinetuneReport
    from reco.captioned_corpus import Lessons

FLAG = "--train-encoder"

Corpora = Annotated[list[str], typer.Argument(help="Pairs, in any form that `reco build` reads.", metavar="CORPUS")]
Output = Annotated[Path, output_option("Directory for the model; absent or empty.", "MODEL")]
Model = Annotated[
    str, typer.Option(help="What to start from: an open_clip architecture, or a model directory.", envvar="RECO_MODEL")
]
Validate = Annotated[
    list[str] | None,
    typer.Option(
        help="Validate on pairs whose key matches, and train on none of them. A random 5 % by default.", metavar="KEYS"
    ),
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the pairs.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Pairs a step. Larger is better, and needs more memory.")]
LearningRate = Annotated[
    float | None, typer.Option(min=0, help="Its peak. By default 3e-4 for models below 20 million weights, else 1e-5.")
]
Bfloat16 = Annotated[bool, typer.Option("--bfloat16", help="Compute in bfloat16: faster and smaller on newer GPUs.")]


def train_encoder(
    corpora: Corpora,
    output: Output,
    model: Model,
    pretrained: Pretrained = None,
    names: Names = None,
    pairs: Pairs = None,
    validate: Validate = None,
    epochs: Epochs = 4,
    batch_size: BatchSize = 256,
    learning_rate: LearningRate = None,
    bfloat16: Bfloat16 = False,
    image_columns: ImageColumns = None,
    caption_column: CaptionColumn = None,
    key_column: KeyColumn = None,
    caption_from_folder: CaptionFromFolder = None,
    caption_template: CaptionTemplate = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fine-tune the whole encoder on the pairs of a corpus, by CLIP's own contrastive loss.

    What RECO spares you, for comparison, or for where the pictures are of a kind that CLIP never saw. MODEL is a new
    encoder: memories and fusions of the old one do not fit it, so build and train again. The epoch that does best on
    the validation pairs is written, when training is over; a run that is stopped writes nothing.

    Example: reco train --train-encoder photos/ -o my-clip --model ViT-B-32 --pretrained laion2b_s34b_b79k
    """
    from memory_builder import ConfigError, CorpusError
    from memory_builder.readers import ReaderOptions
    from memory_builder.template_turns import CaptionTemplates, folder_templates
    from models.devices import choose_device
    from models.errors import EncoderError
    from models.sources.opening import open_model
    from models.sources.saving import check_free
    from models.training.finetuning.finetune import FinetuneConfig
    from reco.captioned_corpus import Selection, read_lessons, read_rows

    bar = Bar("reading pictures")
    try:
        check_free(output)
        config = FinetuneConfig(epochs, batch_size, learning_rate, bfloat16=bfloat16, seed=seed)
        selection = Selection(pairs or ["*"], validate or [], _names(names), seed)
        options = ReaderOptions(
            image_columns=tuple(dict.fromkeys(image_columns or ())),
            caption_column=caption_column,
            key_column=key_column,
            folder_templates=folder_templates(caption_from_folder or ()),
            caption_templates=CaptionTemplates.parse(caption_template or (), caption_column),
        )
        records, refused = read_rows(corpora, options)
        chosen_device = str(choose_device(device))
        opened = open_model(model, pretrained)
        lessons = read_lessons(records, opened, selection, bar.update)
    except (ConfigError, CorpusError, EncoderError, ValueError) as error:
        stop(str(getattr(error, "message", error)), code=2)
    finally:
        bar.close()
    for code, count in sorted((refused + lessons.rejected).items()):
        console.print(f"  {counted(count, 'row')} left out: {code}")
    console.print(
        f"{counted(len(lessons.training), 'pair')} to train on, {len(lessons.validation):,} to validate", style="dim"
    )
    _run(opened, lessons, config, chosen_device, output)
    given = {
        "--image-column": image_columns or [],
        "--caption-column": [caption_column] if caption_column else [],
        "--key-column": [key_column] if key_column else [],
        "--caption-from-folder": caption_from_folder or [],
        "--caption-template": caption_template or [],
    }
    read_so = [word for option, values in given.items() for value in values for word in (option, value)]
    named, model = escape(shell(*corpora, *read_so)), escape(shell(output))
    console.print(f"next: [bold]reco build {named} -o my-memory --model {model}[/]", soft_wrap=True)


def _run(opened: "OpenedModel", lessons: "Lessons", config: "FinetuneConfig", device: str, output: Path) -> None:
    """Train, write, and open what was written."""
    from dataclasses import asdict

    from models.encoder import Encoder
    from models.fingerprint import hash_weights
    from models.sources.saving import save_model
    from models.training.finetuning.finetune import default_learning_rate, finetune

    source = {"name": opened.name, "weights_sha256": hash_weights(opened.model.state_dict())}
    rate = default_learning_rate(opened.model) if config.learning_rate is None else config.learning_rate
    bar = Bar("fine-tuning")

    def report(now: "FinetuneReport") -> None:
        bar.update(now.pairs, now.total, f"loss {now.loss:.3f}, validation {now.validation[-1]:.3f}")

    try:
        losses = finetune(opened.model, lessons.training, lessons.validation, config, report, device)
    except ValueError as error:
        stop(str(error))
    finally:
        bar.close()
    best = min(losses[1:])
    console.print(f"validation loss {losses[0]:.3f} before, {best:.3f} after epoch {losses.index(best, 1)}")
    if best >= losses[0]:
        stop(f"no epoch did better than {opened.name} itself, so nothing is written: lower --learning-rate ({rate:g})")
    about = {
        "source": source,
        "pairs": len(lessons.training),
        "validation_pairs": len(lessons.validation),
        "validation_losses": [round(loss, 4) for loss in losses],
        "config": {**asdict(config), "learning_rate": rate},
    }
    save_model(output, opened, about)
    console.print(f"encoder {Encoder.open(str(output)).fingerprint.id} in {output}")


def _names(path: Path | None) -> list[str]:
    """The listed names; none without a list."""
    if path is None:
        return []
    try:
        names = path.read_text(encoding="utf-8-sig").split("\n")  # an empty file is a list with one empty name: refused
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--names {path}: {error}") from error
    return names


def _flag(
    shown: Annotated[
        bool,
        typer.Option(FLAG, help=f"Fine-tune the whole encoder on a corpus instead: `reco train {FLAG} --help`."),
    ] = False,
) -> None:
    """The flag as `reco train --help` shows it."""


class TrainCommand(TyperCommand):
    """`reco train`, which hands over to `train_encoder` where its flag stands."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **options: Any) -> None:
        """Show the flag among the options of `reco train`."""
        flag = next(param for param in _command(_flag).params if param.name == "shown")
        flag.expose_value = False  # `train` itself never sees it
        super().__init__(*args, params=[*(params or []), flag], **options)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """The context of the command that is meant."""
        if FLAG not in args:
            return super().make_context(info_name, args, *rest, **extra)
        left = [arg for arg in args if arg != FLAG]
        return _command(train_encoder).make_context(f"{info_name} {FLAG}", left, *rest, **extra)


def _command(function: Callable[..., None]) -> Any:
    """A function as a click command."""
    app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)
    app.command()(function)
    return typer.main.get_command(app)
