"""`reco eval`: what the memory and the fusion are worth on a task, beside the frozen encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.backend import FAISS, Backend, Kept, TokenFile, Uri
from reco.console import Bars, console, loading, refuse, say, stop
from reco.counted import counted
from reco.eval_options import FEWEST_RESAMPLES, given_options, refuse_kinds, refuse_unused
from reco.model_files import check_device, check_model
from reco.remote import AllowRemote, RemoteCache, output_option

if TYPE_CHECKING:
    from evaluation.forms import Kind
    from evaluation.refinement import Mode
    from evaluation.report import Evaluated
    from evaluation.tasks import EvalTask
    from memory import SearchableMemory
    from models.encoder import Encoder

MemoryPlace = Annotated[
    str | None, typer.Argument(help="A memory made by `reco build`, or its address in a store.", metavar="MEMORY")
]
FusionPath = Annotated[Path | None, typer.Argument(help="A fusion made by `reco train`.", metavar="FUSION")]
Tasks = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Cached embeddings: an .npz with image, text and label (zero-shot) or pairs (retrieval), or a folder with "
        "img_emb/ and text_emb/. With --model: a folder of class folders, a CSV or JSONL with image and label, or "
        "pairs as `reco build` reads them.",
        metavar="TASK",
    ),
]
Output = Annotated[Path | None, output_option("Folder for results.json, plots and gallery.html.", "DIR")]
MoreFusions = Annotated[
    list[Path] | None,
    typer.Option("--fusion", help="Another seed of the same design. Repeatable: mean and spread.", metavar="FUSION"),
]
KindName = Annotated[
    str | None, typer.Option("--kind", help="zero-shot, retrieval or entities; by default what the task holds.")
]
Neighbours = Annotated[int | None, typer.Option("--k", min=1, help="Neighbours a query; the fusion's own by default.")]
Model = Annotated[
    str | None,
    typer.Option(help="For raw images: open_clip architecture, or a model directory.", envvar="RECO_MODEL"),
]
Pretrained = Annotated[
    str | None, typer.Option(help="open_clip pretrained tag of an architecture.", envvar="RECO_PRETRAINED")
]
Device = Annotated[str, typer.Option(help="Of the encoder: cpu, cuda or auto.", envvar="RECO_DEVICE")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.", envvar="RECO_DTYPE")]
Templates = Annotated[
    str,
    typer.Option(
        help="Prompts of raw classes: [bold]plain[/] (a photo of a {}.), [bold]general[/] (seven), or a file with one "
        "template a line."
    ),
]
Classes = Annotated[
    Path | None, typer.Option(help="More class names of raw tasks, one a line: the label set is not only what occurs.")
]
Unseen = Annotated[
    Path | None, typer.Option(help="Names of the entities that training did not show, one a line (raw tasks).")
]
Resamples = Annotated[
    int, typer.Option("--bootstrap", min=0, max=100_000, help="Resamples, 100 and more; 0 for no intervals.")
]
DuplicateCosine = Annotated[
    float, typer.Option(min=0.5, max=1.0, help="From it on a memory item counts as a copy of a test image.")
]
Show = Annotated[str, typer.Option(help="Mode of the class plot and the gallery: image, text or both.")]
AblationsOf = Annotated[
    Path | None,
    typer.Option(
        "--ablations",
        help="Instead of all arguments: every row of the paper's ablations and every control, on a folder made by "
        "`reco demo` or a few-shot .npz (docs/ablations.md).",
        metavar="WORLD",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, max=50, help="With --ablations: fits and draws of each row.")]
Quick = Annotated[bool, typer.Option("--quick", help="With --ablations: without the designs trained by gradient.")]
QueryOnly = Annotated[
    bool,
    typer.Option(
        "--query-only",
        help="Of retrieval tasks: print only what a refined query finds in a gallery that nobody refined, such as an "
        "index you already have.",
    ),
]
WithoutUnseen = Annotated[
    bool,
    typer.Option(
        "--without-unseen",
        help="Of tasks with unseen entities: ask again as if the memory did not hold their pairs (those whose captions "
        "name one), as it is before they are added.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results.json on standard output.")]


def evaluate(
    context: typer.Context,
    memory: MemoryPlace = None,
    fusion: FusionPath = None,
    tasks: Tasks = None,
    output: Output = None,
    more_fusions: MoreFusions = None,
    kind: KindName = None,
    k: Neighbours = None,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    templates: Templates = "plain",
    classes: Classes = None,
    unseen: Unseen = None,
    bootstrap: Resamples = 2000,
    duplicate_cosine: DuplicateCosine = 0.985,
    show: Show = "both",
    query_only: QueryOnly = False,
    without_unseen: WithoutUnseen = False,
    as_json: AsJson = False,
    ablations: AblationsOf = None,
    seeds: Seeds = 5,
    quick: Quick = False,
    backend: Backend = FAISS,
    uri: Uri = None,
    token_file: TokenFile = None,
    allow_remote: AllowRemote = None,
    remote_cache: RemoteCache = None,
) -> None:
    """Measure frozen CLIP against the refined embeddings.

    Every table has all modes: nothing refined, the image side, the text side, both, and the ensemble of the four
    scores, each gain with a paired bootstrap interval (95 %) over the images. Test images that lie in the memory are
    counted, and masked in a column of their own. What each number means: docs/evaluation.md. Examples:

        reco eval my-memory my-fusion birds-test.npz -o report

        reco eval my-memory my-fusion captions-test.npz --query-only

        reco eval my-memory my-fusion photos/test --unseen newcomers.txt --without-unseen

        reco eval my-memory fusion-0 photos/test --fusion fusion-1 --model ViT-B-32 --pretrained openai

        reco eval --ablations my-demo -o report
    """
    if ablations is None and (memory is None or fusion is None or not tasks):
        stop("missing argument: name MEMORY, FUSION and at least one TASK, or give --ablations WORLD", code=2)
    given = given_options(context)
    if 0 < bootstrap < FEWEST_RESAMPLES:
        stop(f"--bootstrap {bootstrap} gives no interval: 0 for none, or {FEWEST_RESAMPLES} and more", code=2)
    refuse_unused(given, ablations=ablations is not None, output=output is not None)
    if unseen is not None and kind == "zero-shot":
        stop("--unseen makes a task one of entities, which --kind zero-shot is not: leave one of them out", code=2)
    say(f"opening {ablations or f'the memory {memory}'}")
    try:
        if ablations is not None:
            _ablate(ablations, (memory, fusion, tasks), output, (seeds, quick, bootstrap), as_json)
            return
        assert memory is not None and fusion is not None and tasks
        check_device(device)
        words = *_checked_words(kind, show, output), output is not None, without_unseen
        fusions, raw = (
            [fusion, *(more_fusions or [])],
            _checked_paths(tasks, model, classes or unseen, given),
        )
        prompts, trained = _read_prompts(templates, classes, unseen), _read_configs(fusions)
        opened = Kept(memory, backend, uri, token_file, allow_remote, remote_cache).open()
        loading("torch and open_clip" if raw else "torch")
        evaluated = _opened(opened, dict(zip(fusions, trained, strict=True)), (k, bootstrap, duplicate_cosine), words)
        encoder = _open_encoder(evaluated, model, pretrained, device, dtype) if raw else None
        with Bars() as bars:
            to_measure = _opened_tasks(tasks, words[0], encoder, prompts, bars)
            refuse_kinds(to_measure, given, query_only=query_only, without_unseen=without_unseen)
            _measure(evaluated, to_measure, (output, as_json, query_only), bars)
    except Exception as error:
        refuse(error)


def _ablate(
    world: Path, arguments: tuple[object, ...], output: Path | None, how: tuple[int, bool, int], as_json: bool
) -> None:
    if any(arguments):
        stop("--ablations brings its own memory, fusions and tasks: leave MEMORY, FUSION and TASK out", code=2)
    if not world.exists():
        stop(f"world_unknown: there is no {world}: see docs/ablations.md", code=2)
    loading("torch")
    from evaluation.ablations.run import AblationConfig
    from evaluation.bootstrap import Bootstrap
    from reco.ablations import run_ablations

    seeds, quick, resamples = how
    run_ablations(world, output, AblationConfig(seeds, quick, Bootstrap(resamples=resamples)), as_json=as_json)


def _checked_words(kind: str | None, show: str, output: Path | None) -> "tuple[Kind | None, Mode]":
    """What can be refused before anything is opened."""
    from evaluation.checks import check_matplotlib, check_output
    from evaluation.forms import KINDS

    modes: tuple[Mode, ...] = ("image", "text", "both")
    chosen = next((one for one in KINDS if one == kind), None)
    if kind is not None and chosen is None:
        stop(f"unknown kind {kind!r}: choose one of {', '.join(KINDS)}", code=2)
    mode = next((one for one in modes if one == show), None)
    if mode is None:
        stop(f"unknown mode {show!r} for --show: choose one of {', '.join(modes)}", code=2)
    if output is not None:
        check_output(output)
        check_matplotlib()
    return chosen, mode


def _checked_paths(tasks: list[Path], model: str | None, named: Path | None, given: Mapping[str, str]) -> bool:
    """Whether an encoder is needed; refuse tasks that are not there, and models.

    Args:
        named: --classes or --unseen.
        given: the options of the command line, by their parameters.
    """
    from evaluation.errors import EvaluationError
    from evaluation.forms import is_raw

    raw = [is_raw(path) for path in tasks]
    if named and not all(raw):
        stop("--classes and --unseen are for raw images: an .npz holds its classes in class_name and unseen_class", 2)
    useless = [given[name] for name in ("model", "pretrained", "device", "dtype", "templates") if name in given]
    if useless and not any(raw):
        what = "an .npz or a folder of embeddings is encoded already, its class texts too"
        stop(f"{' and '.join(useless)}: for raw images only; {what}", code=2)
    if any(raw) and model is None:
        path = tasks[raw.index(True)]
        raise EvaluationError("encoder_needed", f"{path} holds raw images: name the memory's encoder with --model.")
    if any(raw) and model is not None:
        check_model(model)
    return any(raw)


def _read_prompts(templates: str, classes: Path | None, unseen: Path | None) -> dict[str, Sequence[str]]:
    """What --templates, --classes and --unseen hold, by the names of `RawOptions`."""
    from evaluation.prompts import load_templates, read_lines

    return {
        "templates": load_templates(templates),
        "classes": read_lines(classes, "classes_invalid", "a file of class names") if classes else (),
        "unseen": read_lines(unseen, "classes_invalid", "a file of class names") if unseen else (),
    }


def _read_configs(fusions: list[Path]) -> list[dict[str, Any]]:
    """How each fusion was trained; one that is named twice has no mean with itself."""
    from models.checkpoint_files import checkpoint_id, read_config

    configs, seen = [read_config(path) for path in fusions], set[str]()
    for path in fusions:
        if (known := checkpoint_id(path)) in seen:
            stop(f"{path} is the same fusion as another one named: a mean needs different seeds", code=2)
        seen.add(known)
    return [config.get("trained", {}) for config in configs]


def _opened(
    memory: "SearchableMemory",
    fusions: dict[Path, dict[str, Any]],
    numbers: tuple[int | None, int, float],
    words: "tuple[Kind | None, Mode, bool, bool]",
) -> "Evaluated":
    """The fusions opened for the memory.

    Args:
        fusions: how each was trained.
        numbers: --k, --bootstrap and --duplicate-cosine.
        words: --kind, --show, whether there is an output, which curves are for, and --without-unseen.
    """
    from evaluation.bootstrap import Bootstrap
    from evaluation.report import Evaluated
    from evaluation.run import EvalConfig, check_parts
    from models.checkpoint import open_fusion

    saved = [open_fusion(path, memory.encoder) for path in fusions]
    by_id = {one.id: one.fusion for one in saved}
    k, resamples, cosine = numbers
    trained_on = tuple(one.get("memory_digest") for one in fusions.values())
    config = EvalConfig(k, Bootstrap(resamples=resamples), cosine, words[2], words[3], trained_on)
    check_parts(memory, list(by_id.values()), config.k)
    return Evaluated(memory, by_id, list(fusions.values()), config, words[1])


def _opened_tasks(
    paths: list[Path],
    kind: "Kind | None",
    encoder: "Encoder | None",
    prompts: dict[str, Sequence[str]],
    bars: Bars,
) -> "list[EvalTask]":
    from evaluation.tasks import RawOptions, open_task, with_different_names

    options = RawOptions(
        encoder=encoder, report=lambda what, done, total: bars.update(f"encoding {what}", done, total), **prompts
    )
    return with_different_names([open_task(path, kind, options) for path in paths])


def _open_encoder(
    evaluated: "Evaluated", model: str | None, pretrained: str | None, device: str, dtype: str
) -> "Encoder | None":
    """The encoder for raw images, which must be the memory's own; None if none was named."""
    from memory import check_encoder, encoder_of
    from models.encoder import Encoder

    if model is None:
        return None
    say(f"opening the encoder {model}")
    encoder = Encoder.open(model, pretrained, device=device, dtype=dtype)
    check_encoder(evaluated.memory.encoder, encoder.fingerprint.record(), encoder_of(evaluated.memory))
    return encoder


def _measure(evaluated: "Evaluated", tasks: "list[EvalTask]", told: tuple[Path | None, bool, bool], bars: Bars) -> None:
    """Measure the tasks and tell it; `told` is -o, --json and --query-only."""
    from evaluation.report import json_text, results, write_report
    from evaluation.run import evaluate as evaluate_task
    from reco.eval_tables import print_result

    output, as_json, query_only = told
    fusions = list(evaluated.fusions.values())
    measured = []
    for task in tasks:
        measured.append(evaluate_task(task, evaluated.memory, fusions, evaluated.config, bars.update))
        print_result(measured[-1], len(fusions), query_only=query_only)
    if output is not None:
        names = write_report(output, evaluated, measured)
        console.print(
            f"\n{counted(len(names), 'file')} in {output}; open [bold]{output / 'gallery.html'}[/]", soft_wrap=True
        )
    if as_json:
        typer.echo(json_text(results(evaluated, measured)), nl=False)
