"""`reco eval`: what the memory and the fusion are worth on a task, beside the frozen encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.backend import FAISS, Backend, Kept, TokenFile, Uri
from reco.console import Bars, console, refuse, say, stop
from reco.counted import counted
from reco.remote import AllowRemote, RemoteCache

if TYPE_CHECKING:
    from evaluation.refinement import Mode
    from evaluation.report import Evaluated
    from evaluation.run import EvalConfig
    from evaluation.tasks import EvalTask, Kind
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
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for results.json, plots and gallery.html.", metavar="DIR"),
]
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
Device = Annotated[str, typer.Option(help="Of the encoder: cpu, cuda, mps or auto.", envvar="RECO_DEVICE")]
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
Resamples = Annotated[int, typer.Option("--bootstrap", min=0, max=100_000, help="Resamples; 0 for no intervals.")]
DuplicateCosine = Annotated[
    float, typer.Option(min=0.5, max=1.0, help="Above it a memory item counts as a copy of a test image.")
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
AsJson = Annotated[bool, typer.Option("--json", help="Print results.json on standard output.")]


def evaluate(
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

        reco eval my-memory fusion-0 photos/test --fusion fusion-1 --model ViT-B-32 --pretrained openai

        reco eval --ablations my-demo -o report
    """
    if ablations is None and (memory is None or fusion is None or not tasks):
        stop("missing argument: name MEMORY, FUSION and at least one TASK, or give --ablations WORLD", code=2)
    say(f"opening {ablations or f'the memory {memory}'}")  # first: torch alone takes seconds
    from evaluation.bootstrap import Bootstrap
    from evaluation.run import EvalConfig

    try:
        if ablations is not None:
            _ablate(ablations, (memory, fusion, tasks), output, (seeds, quick, bootstrap), as_json)
            return
        assert memory is not None and fusion is not None and tasks
        checked = _checked_words(kind, show, output)
        config = EvalConfig(k, Bootstrap(resamples=bootstrap), duplicate_cosine, curves=output is not None)
        encoder = (model, pretrained, device, dtype)
        evaluated = _opened(
            Kept(memory, backend, uri, token_file, allow_remote, remote_cache),
            [fusion, *(more_fusions or [])],
            config,
            checked[1],
        )
        prompts = (templates, classes, unseen)
        with Bars() as bars:
            opened = _opened_tasks(tasks, checked[0], evaluated, encoder, prompts, bars)
            _check_galleries(opened, query_only)
            _measure(evaluated, opened, (output, as_json, query_only), bars)
    except Exception as error:
        refuse(error)


def _ablate(
    world: Path, arguments: tuple[object, ...], output: Path | None, how: tuple[int, bool, int], as_json: bool
) -> None:
    from evaluation.ablations.run import AblationConfig
    from evaluation.bootstrap import Bootstrap
    from reco.ablations import run_ablations

    if any(arguments):
        stop("--ablations brings its own memory, fusions and tasks: leave MEMORY, FUSION and TASK out", code=2)
    seeds, quick, resamples = how
    run_ablations(world, output, AblationConfig(seeds, quick, Bootstrap(resamples=resamples)), as_json=as_json)


def _checked_words(kind: str | None, show: str, output: Path | None) -> "tuple[Kind | None, Mode]":
    """What can be refused before anything is opened."""
    from evaluation.plots import check_matplotlib
    from evaluation.report import check_output
    from evaluation.tasks import KINDS

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


def _opened(kept: Kept, fusions: list[Path], config: "EvalConfig", mode: "Mode") -> "Evaluated":
    from evaluation.report import Evaluated
    from evaluation.run import check_parts
    from models.checkpoint import checkpoint_id, load_fusion, read_config

    opened = kept.open()
    by_id = {}
    for path in fusions:
        loaded = load_fusion(path, opened.encoder)
        if checkpoint_id(path) in by_id:
            stop(f"{path} is the same fusion as another one named: a mean needs different seeds", code=2)
        by_id[checkpoint_id(path)] = loaded
    check_parts(opened, list(by_id.values()), config.k)
    return Evaluated(opened, by_id, [read_config(path).get("trained", {}) for path in fusions], config, mode)


def _opened_tasks(
    paths: list[Path],
    kind: "Kind | None",
    evaluated: "Evaluated",
    encoder: tuple[str | None, str | None, str, str],
    prompts: tuple[str, Path | None, Path | None],
    bars: Bars,
) -> "list[EvalTask]":
    from evaluation.tasks import RawOptions, is_raw, open_task, with_different_names
    from evaluation.tasks.prompts import load_templates, read_lines

    templates, classes, unseen = prompts
    raw = [is_raw(path) for path in paths]
    if (classes or unseen) and not all(raw):
        stop("--classes and --unseen are for raw images: an .npz holds its classes in class_name and unseen_class", 2)
    options = RawOptions(
        encoder=_open_encoder(evaluated, *encoder) if any(raw) else None,
        report=lambda what, done, total: bars.update(f"encoding {what}", done, total),
        templates=load_templates(templates),
        classes=read_lines(classes, "classes_invalid", "a file of class names") if classes else (),
        unseen=read_lines(unseen, "classes_invalid", "a file of class names") if unseen else (),
    )
    return with_different_names([open_task(path, kind, options) for path in paths])


def _open_encoder(
    evaluated: "Evaluated", model: str | None, pretrained: str | None, device: str, dtype: str
) -> "Encoder | None":
    """The encoder for raw images, which must be the memory's own; None if none was named."""
    from memory import check_encoder
    from models.encoder import Encoder

    if model is None:
        return None
    say(f"opening the encoder {model}")
    encoder = Encoder.open(model, pretrained, device=device, dtype=dtype)
    check_encoder(evaluated.memory.encoder, encoder.fingerprint.record())
    return encoder


def _check_galleries(tasks: "list[EvalTask]", query_only: bool) -> None:
    for task in tasks:
        if query_only and task.kind != "retrieval":
            stop(f"--query-only is for retrieval tasks, and {task.name} is one of {task.kind}: leave it out", code=2)


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
